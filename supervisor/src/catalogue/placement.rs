//! The ways of placing a model on a CUDA device, and the choice among them.

use ipc_protocol::arithmetic::{Decoding, Encoders};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::CudaNeed;

/// One way of placing a model on a CUDA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaPlacement {
    /// Placement of the text encoders between two prompts.
    pub encoders: Encoders,
    /// The way of decoding pictures.
    pub decoding: Decoding,
    /// The memory that it needs.
    pub need: CudaNeed,
}

impl CudaPlacement {
    /// Memory of the device while a picture of `size` is drawn.
    pub fn device_at(&self, size: PictureSize) -> Mebibytes {
        self.need.device + self.need.activation.at(size)
    }

    /// Its cost in a few words.
    fn cost(&self) -> &'static str {
        match (self.encoders, self.decoding) {
            (Encoders::Keep, Decoding::Whole) => "everything stays on the device",
            (Encoders::Drop, Decoding::Whole) => "encoders are loaded for each new prompt",
            (Encoders::Cpu, Decoding::Whole) => "encoders run on the CPU",
            (Encoders::Keep, Decoding::Tiled) => "pictures are decoded in tiles, which is slower",
            (Encoders::Drop, Decoding::Tiled) => {
                "encoders are loaded for each new prompt, pictures are decoded in tiles"
            }
            (Encoders::Cpu, Decoding::Tiled) => {
                "encoders run on the CPU, pictures are decoded in tiles"
            }
        }
    }
}

/// The CUDA devices, as far as placing a model needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CudaDevices {
    /// None is known.
    Unknown,
    /// There are some, and no worker program for them.
    WithoutProgram,
    /// The largest of their limits.
    UpTo(Mebibytes),
}

/// Chooses the first way, in the order of preference, that fits the devices at `size`: the first of all if no device is
/// known, and the last, which needs least, if none fits.
pub fn chosen(
    ways: &[CudaPlacement],
    size: PictureSize,
    devices: CudaDevices,
) -> Option<CudaPlacement> {
    match devices {
        CudaDevices::Unknown => ways.first().copied(),
        CudaDevices::WithoutProgram => None,
        CudaDevices::UpTo(limit) => {
            let fits = |way: &&CudaPlacement| way.device_at(size) <= limit;
            ways.iter().find(fits).or(ways.last()).copied()
        }
    }
}

/// One line for each way, for `imagepool plan`.
pub fn lines(
    ways: &[CudaPlacement],
    used: Option<CudaPlacement>,
    size: PictureSize,
) -> Vec<String> {
    let line = |way: &CudaPlacement| {
        let mark = match Some(*way) == used {
            true => "used",
            false => "not used",
        };
        format!(
            "on a CUDA device: {} MB to be resident + {} MB for a picture = {} MB, and {} MB of host; {}: {mark}",
            way.need.device.0,
            way.need.activation.at(size).0,
            way.device_at(size).0,
            way.need.host.0,
            way.cost(),
        )
    };
    ways.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use pool::Activation;

    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 1024,
        height: 1024,
    };

    fn way(encoders: Encoders, decoding: Decoding, device: u64) -> CudaPlacement {
        CudaPlacement {
            encoders,
            decoding,
            need: CudaNeed {
                host: Mebibytes(600),
                device: Mebibytes(device),
                activation: Activation {
                    base: Mebibytes(100),
                    ..Activation::default()
                },
            },
        }
    }

    fn ways() -> [CudaPlacement; 3] {
        [
            way(Encoders::Keep, Decoding::Whole, 900),
            way(Encoders::Cpu, Decoding::Whole, 700),
            way(Encoders::Cpu, Decoding::Tiled, 500),
        ]
    }

    #[test]
    fn the_first_way_that_fits_the_device_is_chosen() {
        let [keep, host, tiled] = ways();
        let up_to = |mb| chosen(&ways(), SIZE, CudaDevices::UpTo(Mebibytes(mb)));
        assert_eq!(up_to(1000), Some(keep));
        assert_eq!(up_to(999), Some(host));
        assert_eq!(up_to(799), Some(tiled));
        assert_eq!(up_to(10), Some(tiled));
        let on = |ways: &[CudaPlacement], devices| chosen(ways, SIZE, devices);
        assert_eq!(on(&ways(), CudaDevices::Unknown), Some(keep));
        assert_eq!(on(&ways(), CudaDevices::WithoutProgram), None);
        assert_eq!(on(&[], CudaDevices::Unknown), None);
    }

    #[test]
    fn plan_lists_every_way_with_its_sum_and_cost() {
        let lines = lines(&ways(), Some(ways()[1]), SIZE);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "on a CUDA device: 700 MB to be resident + 100 MB for a picture = 800 MB, and 600 MB of host; encoders run \
             on the CPU: used"
        );
        assert!(lines[2].ends_with("tiles: not used"), "{}", lines[2]);
    }
}

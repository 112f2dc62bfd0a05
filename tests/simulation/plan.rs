//! The plan of a world: everything drawn before its first event.

use std::time::Duration;

use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceConstraint, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Activation, CudaNeed, DeviceLimit, Files, GuidanceRule, ModelSpec, Need, Patience, Quotas,
    Registry, Settings, SizeRule, UserQuota,
};

use crate::faults::FaultSet;
use crate::random::SeededRandom;

/// A world before it begins. The shrinker makes it smaller.
#[derive(Debug, Clone)]
pub(crate) struct WorldPlan {
    pub(crate) seed: u64,
    pub(crate) models: usize,
    pub(crate) clients: usize,
    pub(crate) users: usize,
    pub(crate) devices: usize,
    pub(crate) faults: FaultSet,
    /// Events before the faults stop and no new request comes.
    pub(crate) events: u64,
    pub(crate) fifo: bool,
}

impl WorldPlan {
    /// A world of one device, one client and one user, without faults and without events of its own.
    pub(crate) fn quiet(seed: u64, models: usize) -> Self {
        Self {
            seed,
            models,
            clients: 1,
            users: 1,
            devices: 1,
            faults: FaultSet(0),
            events: 0,
            fifo: false,
        }
    }

    pub(crate) fn draw(seed: u64, fifo: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let few = random.permille(300);
        // With one model on one device nothing but its turn keeps a job waiting.
        let small = random.permille(200);
        Self {
            seed,
            models: if small { 1 } else { random.from(1, 8) } as usize,
            clients: if few {
                random.from(1, 20)
            } else {
                random.from(20, 200)
            } as usize,
            users: random.from(1, 8) as usize,
            devices: if small { 1 } else { random.from(1, 3) } as usize,
            faults: FaultSet::draw(&mut random),
            events: random.from(1_000, 9_000),
            fifo,
        }
    }

    /// Returns the command that runs this world again.
    pub(crate) fn replay(&self) -> String {
        format!(
            "scripts/simulate --seed {} --models {} --clients {} --users {} --devices {} --faults {} --events {}{}",
            self.seed,
            self.models,
            self.clients,
            self.users,
            self.devices,
            self.faults.0,
            self.events,
            if self.fifo { " --fifo" } else { "" }
        )
    }

    pub(crate) fn settings(&self, random: &mut SeededRandom) -> Settings {
        Settings {
            default_model: name(0).into(),
            cold_start_workers: random.from(1, 3) as u32,
            max_workers_per_model: random.from(1, 4) as u32,
            max_starting_workers: random.from(1, 20) as u32,
            grow_after: Duration::from_millis(random.from(0, 3000)),
            idle: Duration::from_millis(random.from(1000, 60_000)),
            queue_per_model: if random.permille(250) {
                random.from(1, 3)
            } else {
                random.from(1, 40)
            } as usize,
            queue_total: random.from(20, 200) as usize,
            queue_bytes: match random.permille(200) {
                true => random.from(100, 2_000) as usize,
                false => 16 << 20,
            },
            prompt_bytes: match random.from(0, 9) {
                0 => 16,
                1 => 8,
                _ => 16384,
            },
            min_workers: u32::from(random.permille(100)),
            max_overtakes: random.from(1, 8) as u32,
            // Exactly a usual picture, or more than any.
            max_pixels: if random.permille(200) {
                512 * 512
            } else {
                2048 * 2048
            },
            margin_percent: random.from(5, 30),
            quarantine: Duration::from_secs(random.from(20, 600)),
            patience: Patience {
                longest: Duration::from_secs(random.from(130, 600)),
                longest_known: Duration::from_secs(random.from(60, 300)),
                ..Patience::default()
            },
            fifo: self.fifo,
            quotas: Quotas {
                others: random.permille(150).then(|| UserQuota {
                    jobs_per_hour: Some(random.from(1, 60) as u32),
                    ..UserQuota::default()
                }),
                ..Quotas::default()
            },
            ..Settings::default()
        }
    }

    pub(crate) fn device_limits(&self, random: &mut SeededRandom) -> Vec<DeviceLimit> {
        let mut limits = vec![DeviceLimit {
            device: Device::Host,
            limit: Mebibytes(random.from(150, 1500)),
            confirms: false,
        }];
        for ordinal in 1..self.devices {
            limits.push(DeviceLimit {
                device: Device::Cuda(ordinal as u32 - 1),
                limit: Mebibytes(random.from(100, 800)),
                confirms: random.permille(700),
            });
        }
        limits
    }

    pub(crate) fn registry(&self, random: &mut SeededRandom) -> Registry {
        let specs = (0..self.models)
            .map(|nth| spec(nth, self.devices > 1, random))
            .collect();
        Registry::new(specs).expect("drawn models are sound")
    }
}

/// Returns a model's name; names differ enough that a misspelling is not another one.
pub(crate) fn name(nth: usize) -> &'static str {
    const NAMES: [&str; 8] = [
        "apricot-9",
        "banana",
        "cherry-xl",
        "damson",
        "elderberry",
        "fig",
        "grapefruit",
        "huckle",
    ];
    NAMES[nth % NAMES.len()]
}

fn spec(nth: usize, gpus: bool, random: &mut SeededRandom) -> ModelSpec {
    let key = name(nth);
    ModelSpec {
        key: ModelKey::new(key).expect("a plain key"),
        aliases: if random.permille(300) {
            vec![format!("the-{key}")]
        } else {
            Vec::new()
        },
        family: Family::SYNTHETIC,
        need: need(gpus, random),
        default_size: PictureSize {
            width: 512,
            height: 512,
        },
        sizes: SizeRule {
            multiple: 16,
            min: 64,
            max: 1536,
        },
        default_steps: 4,
        max_steps: 20,
        guidance: match random.permille(400) {
            true => GuidanceRule::Scale {
                default: random.from(0, 4) as f32,
                max: 5.0,
            },
            false => GuidanceRule::None,
        },
        empty_prompt: random.permille(700),
        digest: format!("digest-{nth}"),
        pinned: random.permille(60),
        min_workers: random.permille(80).then(|| random.from(0, 2) as u32),
        max_workers: random.permille(200).then(|| random.from(1, 3) as u32),
        device: DeviceConstraint::Auto,
        params: String::new(),
        files: match random.permille(10) {
            true => Files::Missing("its files are not here".into()),
            false => Files::Here {
                stamp: format!("stamp-{nth}"),
            },
        },
    }
}

fn need(gpus: bool, random: &mut SeededRandom) -> Need {
    let weights = random.from(40, 300);
    let only_gpu = random.permille(if gpus { 150 } else { 20 });
    let only_cpu = !only_gpu && random.permille(150);
    // Some take nothing of the host while they run elsewhere.
    let host = if random.permille(300) {
        0
    } else {
        random.from(1, 20)
    };
    let square = random.permille(300);
    let most = if random.permille(100) { 600 } else { 40 };
    let activation = Activation {
        base: Mebibytes(random.from(0, 20)),
        per_megapixel: Mebibytes(random.from(0, most)),
        per_megapixel_squared: Mebibytes(if square { random.from(1, 60) } else { 0 }),
        least: Mebibytes(if random.permille(200) {
            random.from(1, 60)
        } else {
            0
        }),
    };
    Need {
        on_cpu: (!only_gpu).then_some(Mebibytes(weights)),
        on_cuda: (!only_cpu).then_some(CudaNeed {
            host: Mebibytes(host),
            device: Mebibytes(weights),
            // Attention on a device keeps no scores.
            activation: Activation {
                per_megapixel_squared: Mebibytes(0),
                ..activation
            },
        }),
        activation,
    }
}

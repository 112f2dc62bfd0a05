//! What a world is made of: everything that is drawn before its first event.

use std::time::Duration;

use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceWish, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Activation, CudaResidency, DeviceLimit, Files, GuidanceRule, ModelSpec, Need, Patience,
    Registry, Settings, SizeRule,
};

use crate::dice::Dice;
use crate::faults::Swarm;

/// A world before it begins. The shrinker makes it smaller.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) models: usize,
    pub(crate) clients: usize,
    pub(crate) users: usize,
    pub(crate) devices: usize,
    pub(crate) swarm: Swarm,
    /// Events before the faults stop and no new request comes.
    pub(crate) events: u64,
    pub(crate) fifo: bool,
}

impl Plan {
    pub(crate) fn draw(seed: u64, fifo: bool) -> Self {
        let mut dice = Dice::new(seed);
        let few = dice.permille(300);
        // With one model on one device nothing but its turn keeps a job waiting.
        let small = dice.permille(200);
        Self {
            seed,
            models: if small { 1 } else { dice.from(1, 8) } as usize,
            clients: if few {
                dice.from(1, 20)
            } else {
                dice.from(20, 200)
            } as usize,
            users: dice.from(1, 8) as usize,
            devices: if small { 1 } else { dice.from(1, 3) } as usize,
            swarm: Swarm::draw(&mut dice),
            events: dice.from(1_000, 9_000),
            fifo,
        }
    }

    /// What to type to see it again.
    pub(crate) fn replay(&self) -> String {
        format!(
            "scripts/simulate --seed {} --models {} --clients {} --users {} --devices {} --faults {} --events {}{}",
            self.seed,
            self.models,
            self.clients,
            self.users,
            self.devices,
            self.swarm.0,
            self.events,
            if self.fifo { " --fifo" } else { "" }
        )
    }

    pub(crate) fn settings(&self, dice: &mut Dice) -> Settings {
        Settings {
            default_model: name(0).into(),
            cold_start_workers: dice.from(1, 3) as u32,
            max_workers_per_model: dice.from(1, 4) as u32,
            grow_after: Duration::from_millis(dice.from(0, 3000)),
            idle: Duration::from_millis(dice.from(1000, 60_000)),
            queue_per_model: if dice.permille(250) {
                dice.from(1, 3)
            } else {
                dice.from(1, 40)
            } as usize,
            queue_total: dice.from(20, 200) as usize,
            queue_bytes: match dice.permille(200) {
                true => dice.from(100, 2_000) as usize,
                false => 16 << 20,
            },
            prompt_bytes: match dice.from(0, 9) {
                0 => 16,
                1 => 8,
                _ => 16384,
            },
            min_workers: u32::from(dice.permille(100)),
            max_overtakes: dice.from(1, 8) as u32,
            // Exactly a usual picture, or more than any.
            max_pixels: if dice.permille(200) {
                512 * 512
            } else {
                2048 * 2048
            },
            margin_percent: dice.from(5, 30),
            quarantine: Duration::from_secs(dice.from(20, 600)),
            patience: Patience {
                longest: Duration::from_secs(dice.from(130, 600)),
                longest_known: Duration::from_secs(dice.from(60, 300)),
                ..Patience::default()
            },
            fifo: self.fifo,
            ..Settings::default()
        }
    }

    pub(crate) fn device_limits(&self, dice: &mut Dice) -> Vec<DeviceLimit> {
        let mut limits = vec![DeviceLimit {
            device: Device::Host,
            limit: Mebibytes(dice.from(150, 1500)),
            confirms: false,
        }];
        for ordinal in 1..self.devices {
            limits.push(DeviceLimit {
                device: Device::Cuda(ordinal as u32 - 1),
                limit: Mebibytes(dice.from(100, 800)),
                confirms: dice.permille(700),
            });
        }
        limits
    }

    pub(crate) fn registry(&self, dice: &mut Dice) -> Registry {
        let specs = (0..self.models)
            .map(|nth| spec(nth, self.devices > 1, dice))
            .collect();
        Registry::new(specs).expect("drawn models are sound")
    }
}

/// What the models are called: far enough from each other that a slip of the pen is none of them.
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

fn spec(nth: usize, gpus: bool, dice: &mut Dice) -> ModelSpec {
    let key = name(nth);
    ModelSpec {
        key: ModelKey::new(key).expect("a plain key"),
        aliases: if dice.permille(300) {
            vec![format!("the-{key}")]
        } else {
            Vec::new()
        },
        family: Family::SYNTHETIC,
        need: need(gpus, dice),
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
        guidance: match dice.permille(400) {
            true => GuidanceRule::Scale {
                default: dice.from(0, 4) as f32,
                max: 5.0,
            },
            false => GuidanceRule::None,
        },
        empty_prompt: dice.permille(700),
        digest: format!("digest-{nth}"),
        pinned: dice.permille(60),
        min_workers: dice.permille(80).then(|| dice.from(0, 2) as u32),
        max_workers: dice.permille(200).then(|| dice.from(1, 3) as u32),
        device: DeviceWish::Auto,
        params: String::new(),
        files: match dice.permille(10) {
            true => Files::Missing("its files are not here".into()),
            false => Files::Here {
                stamp: format!("stamp-{nth}"),
            },
        },
    }
}

fn need(gpus: bool, dice: &mut Dice) -> Need {
    let weights = dice.from(40, 300);
    let only_gpu = dice.permille(if gpus { 150 } else { 20 });
    let only_cpu = !only_gpu && dice.permille(150);
    // Some take nothing of the host while they run elsewhere.
    let host = if dice.permille(300) {
        0
    } else {
        dice.from(1, 20)
    };
    let square = dice.permille(300);
    let most = if dice.permille(100) { 600 } else { 40 };
    Need {
        on_cpu: (!only_gpu).then_some(Mebibytes(weights)),
        on_cuda: (!only_cpu).then_some(CudaResidency {
            host: Mebibytes(host),
            device: Mebibytes(weights),
        }),
        activation: Activation {
            base: Mebibytes(dice.from(0, 20)),
            per_megapixel: Mebibytes(dice.from(0, most)),
            per_megapixel_squared: Mebibytes(if square { dice.from(1, 60) } else { 0 }),
            least: Mebibytes(if dice.permille(200) {
                dice.from(1, 60)
            } else {
                0
            }),
        },
    }
}

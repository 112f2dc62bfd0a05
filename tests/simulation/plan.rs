//! What a world is made of: everything that is drawn before its first event.

use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceWish, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Activation, CudaResidency, DeviceLimit, Family, GuidanceRule, ModelSpec, Need, Registry,
    Settings, SizeRule,
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
        Self {
            seed,
            models: dice.from(1, 8) as usize,
            clients: if few {
                dice.from(1, 20)
            } else {
                dice.from(20, 200)
            } as usize,
            users: dice.from(1, 8) as usize,
            devices: dice.from(1, 3) as usize,
            swarm: Swarm::draw(&mut dice),
            events: dice.from(2_000, 12_000),
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
            default_model: "m0".into(),
            cold_start_workers: dice.from(1, 3) as u32,
            max_workers_per_model: dice.from(1, 4) as u32,
            grow_after: Duration::from_millis(dice.from(0, 3000)),
            idle: Duration::from_millis(dice.from(1000, 60_000)),
            queue_per_model: dice.from(1, 40) as usize,
            queue_total: dice.from(20, 200) as usize,
            max_overtakes: dice.from(1, 8) as u32,
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
        let specs = (0..self.models).map(|nth| spec(nth, dice)).collect();
        Registry::new(specs).expect("drawn models are sound")
    }
}

fn spec(nth: usize, dice: &mut Dice) -> ModelSpec {
    let weights = dice.from(40, 300);
    let only_gpu = nth % 4 == 3 && dice.permille(300);
    ModelSpec {
        key: ModelKey::new(&format!("m{nth}")).expect("a plain key"),
        aliases: Vec::new(),
        family: Family::Synthetic,
        need: Need {
            on_cpu: (!only_gpu).then_some(Mebibytes(weights)),
            on_cuda: Some(CudaResidency {
                host: Mebibytes(dice.from(1, 20)),
                device: Mebibytes(weights),
            }),
            activation: Activation {
                base: Mebibytes(dice.from(0, 20)),
                per_megapixel: Mebibytes(dice.from(0, 40)),
                per_megapixel_squared: Mebibytes(0),
                least: Mebibytes(0),
            },
        },
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
        guidance: GuidanceRule::None,
        empty_prompt: true,
        digest: format!("digest-{nth}"),
        pinned: dice.permille(60),
        min_workers: dice.permille(60).then_some(1),
        max_workers: None,
        device: DeviceWish::Auto,
        params: String::new(),
        missing: None,
    }
}

//! Checks from outside the pool, one promise each, with a message for a violation.
//!
//! - `status` what the pool says of itself is so · `reports` who has to be told is told
//! - `reasons` why a job waits, and whether it could run · `refusals` who may not enter, and who may, by which `words`
//! - `ends` workers leave for a reason and in time (`patience`), and for others by `evictions` · `orders` operators get what they said
//! - `floors` who is wanted starts, and who is not leaves · `shares` and
//!   `overtakes` who is next
//! - `trouble` back-off, cool-down and breaker go by what failed, and `standing` is what they allow

mod ends;
mod evictions;
mod floors;
mod idle;
mod orders;
mod overtakes;
mod patience;
mod reasons;
mod refusals;
mod reports;
mod rules;
mod shares;
mod standing;
mod status;
mod trouble;
mod words;

use ipc_protocol::ids::ModelKey;
use pool::{Action, DeviceLimit, Event, Moment, Notice, Pool, Registry, Settings, StartReason};

use self::trouble::Trouble;
use crate::scene::Scene;
use crate::shadow::Verdict;

pub(crate) struct Checks {
    scene: Scene,
    idle: idle::Idle,
    orders: orders::Orders,
    overtakes: overtakes::Overtakes,
    /// Models of jobs that nobody waits for any more since this event.
    unwanted: Vec<ModelKey>,
    shares: shares::Shares,
    trouble: Trouble,
    last: Moment,
    /// The pool has decided something.
    settled: bool,
}

impl Checks {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let scene = Scene::new(settings, registry, limits);
        Self {
            idle: idle::Idle::default(),
            orders: orders::Orders::default(),
            overtakes: overtakes::Overtakes::default(),
            unwanted: Vec::new(),
            shares: shares::Shares::new(&scene),
            trouble: Trouble::default(),
            last: Moment::START,
            settled: false,
            scene,
        }
    }

    /// Everything that one event and what came of it can show.
    pub(crate) fn check(&mut self, now: Moment, event: &Event, actions: &[Action]) -> Verdict {
        if self.scene.gone {
            return Ok(());
        }
        if matches!(event, Event::LoopStalled { .. }) {
            // Nobody could decide anything meanwhile, and what is due is decided with the next event.
            self.settled = false;
            self.scene.hear(now, event);
            return match actions {
                [] => Ok(()),
                _ => Err(format!("{actions:?} before what was due is decided")),
            };
        }
        self.check_late(now)?;
        self.orders.before(&self.scene, now, event);
        self.trouble.before(&self.scene, event);
        self.scene.hear(now, event);
        self.trouble.hear(&self.scene, now, event);
        for action in actions {
            if is_for_a_floor(action) {
                self.scene.bring_back();
            }
            let scene = &self.scene;
            ends::check(scene, now, event, action)?;
            reports::check(scene, action)?;
            refusals::check(scene, &self.trouble, now, event, action)?;
            started(scene, &self.trouble, now, action)?;
            self.idle.check(scene, now, action)?;
            self.orders.check(scene, &self.trouble, action)?;
            self.shares.check(scene, action)?;
            self.overtakes.check(scene, &self.trouble, now, action)?;
            self.unwanted.extend(idle::unwanted(scene, action));
            self.trouble.check(scene, now, action)?;
            self.scene.act(now, action);
            self.shares.note(&self.scene, action);
        }
        self.scene.bring_back();
        self.after(now, event, actions)
    }

    /// What time alone made right was done in time: nobody starts a moment after it was due.
    fn check_late(&mut self, now: Moment) -> Verdict {
        let before = Moment(now.0.saturating_sub(1));
        let (last, settled) = (std::mem::replace(&mut self.last, now), self.settled);
        match settled && last < before {
            true => floors::check_waits(&self.scene, &self.trouble, before),
            false => Ok(()),
        }
    }

    fn after(&mut self, now: Moment, event: &Event, actions: &[Action]) -> Verdict {
        self.settled |= floors::decides(event, actions);
        let scene = &self.scene;
        ends::check_event(scene, now, event, actions)?;
        reports::check_event(scene, now, actions)?;
        self.trouble.check_event()?;
        if scene.gone {
            return self.orders.check_end();
        }
        self.orders.check_event(scene, event)?;
        self.idle.check_event(scene, now, event)?;
        idle::check_loads(scene, std::mem::take(&mut self.unwanted), actions)?;
        floors::check_event(scene, &self.trouble, now, event, actions)
    }

    /// What the pool says of itself, all of it.
    pub(crate) fn compare(&self, now: Moment, pool: &Pool, turn: u64) -> Verdict {
        if self.scene.gone {
            return Ok(());
        }
        status::check(&self.scene, &self.trouble, now, pool)?;
        reasons::check(&self.scene, &self.trouble, now, pool, turn)
    }
}

/// What the registry itself has to refuse.
pub(crate) fn check_rules(registry: &Registry) -> Verdict {
    rules::check(registry)
}

fn started(scene: &Scene, trouble: &Trouble, now: Moment, action: &Action) -> Verdict {
    match action {
        Action::Start(start) => floors::check(scene, trouble, now, start),
        Action::Tell(Notice::Evicted {
            name, for_model, ..
        }) => evictions::check(scene, trouble, now, name, for_model),
        _ => Ok(()),
    }
}

/// What was restarted is wanted from here on, before the event is over.
fn is_for_a_floor(action: &Action) -> bool {
    match action {
        Action::Start(start) => start.reason == StartReason::Floor,
        Action::Tell(Notice::Evicted { .. }) => true,
        _ => false,
    }
}

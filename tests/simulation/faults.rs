//! The kinds of faults that can happen in a world.
//!
//! Each world switches a random half of them off, so that one fault cannot hide another.

use crate::random::SeededRandom;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// One kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum FaultKind { $($(#[$doc])* $name,)* }

        impl FaultKind {
            pub(crate) const ALL: &[(Self, &'static str)] = &[$((Self::$name, $word),)*];
        }
    };
}

faults! {
    DieBeforeHello = "die-before-hello",
    DieLoading = "die-loading",
    DieDrawing = "die-drawing",
    DieIdle = "die-idle",
    DieUnwinding = "die-unwinding",
    KilledFromOutside = "killed-from-outside",
    KernelOom = "kernel-oom",
    Hang = "hang",
    Pause = "pause",
    Stuck = "stuck",
    Slow = "slow",
    SpawnFails = "spawn-fails",
    CannotLoad = "cannot-load",
    OutOfMemoryLoading = "oom-loading",
    OutOfMemory = "oom",
    NotFinite = "not-finite",
    Repeats = "repeats",
    Garbage = "garbage",
    IgnoresAsk = "ignores-ask",
    IgnoresCancel = "ignores-cancel",
    LateMemory = "late-memory",
    ClientGone = "client-gone",
    Cancels = "cancels",
    Deadlines = "deadlines",
    Poison = "poison",
    CrashLoop = "crash-loop",
    Operator = "operator",
    Registry = "registry",
    Fat = "fat",
    DeviceLost = "device-lost",
    Drains = "drains",
    Others = "others",
    Starved = "starved",
    Sigbus = "sigbus",
    ContextLost = "context-lost",
    AllocationFails = "allocation-fails",
    Uncounted = "uncounted",
    NoEvidence = "no-evidence",
    HungLoads = "hung-loads",
    Massacre = "massacre",
    Doomed = "doomed",
    Looks = "looks",
    Fetches = "fetches",
    Unmeasured = "unmeasured",
}

/// The kinds of faults of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FaultSet(pub(crate) u64);

impl FaultSet {
    pub(crate) fn draw(random: &mut SeededRandom) -> Self {
        let all = (1_u64 << FaultKind::ALL.len()) - 1;
        // One world in sixteen has no faults at all: there nothing may fail.
        let mask = if random.permille(62) {
            0
        } else {
            random.next() & all
        };
        Self(mask)
    }

    pub(crate) fn has(self, fault: FaultKind) -> bool {
        self.0 >> (fault as u8) & 1 == 1
    }

    pub(crate) fn without(self, fault: FaultKind) -> Self {
        Self(self.0 & !(1 << (fault as u8)))
    }

    pub(crate) fn words(self) -> String {
        let on = FaultKind::ALL.iter().filter(|(fault, _)| self.has(*fault));
        let words: Vec<&str> = on.map(|(_, word)| *word).collect();
        words.join(" ")
    }
}

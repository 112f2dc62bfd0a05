//! The two conversations, a message type for each side of each.

pub mod client;
pub mod worker;

/// Numbers the variants of a message enum and says how large each may be: `Variant(..) = kind, cap`.
macro_rules! message {
    ($message:ident { $($variant:ident = $kind:literal, $cap:expr;)* }) => {
        impl crate::frame::Message for $message {
            fn kind(&self) -> u16 {
                match self { $(Self::$variant { .. } => $kind,)* }
            }

            fn cap(kind: u16) -> Option<usize> {
                match kind { $($kind => Some($cap),)* _ => None }
            }
        }
    };
}
pub(crate) use message;

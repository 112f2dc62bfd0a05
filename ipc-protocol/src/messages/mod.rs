//! The messages of both connections: client and supervisor, supervisor and worker.

pub mod client;
pub mod worker;

/// Gives each variant of a message enum its kind and the largest size of its body in bytes:
/// `Variant = kind, cap`.
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

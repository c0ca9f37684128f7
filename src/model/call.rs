//! Calls as numbers: what a rank notes of its last one, and what a verdict reads.
use super::CollKind;

/// Numbers of calls, as a verdict shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Call {
    Send = 1,
    Receive = 2,
    Probe = 3,
    Wait = 4,
    Finalize = 5,
}

/// Calls of collectives have the numbers of their kinds from here on.
pub(crate) const COLLECTIVE_CALLS: u32 = 100;

/// The word for call number `number`; `None` where a rank has made no call yet.
pub(crate) fn call_name(number: u32) -> Option<&'static str> {
    match number {
        0 => None,
        1 => Some("send"),
        2 => Some("receive"),
        3 => Some("probe"),
        4 => Some("wait for a request"),
        5 => Some("finalize"),
        _ => Some(
            number
                .checked_sub(COLLECTIVE_CALLS)
                .and_then(CollKind::from_number)
                .map_or("unknown call", CollKind::name),
        ),
    }
}

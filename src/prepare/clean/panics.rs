//! Catches panics of parsers from other crates, so that a panic costs one record only.

use std::{any::Any, panic};

/// Calls `work`, which processes one record.
///
/// # Errors
/// The message of a panic, which the panic hook has already printed. A stack overflow is not caught.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What a record's parser leaves half done is dropped with the record.
    panic::catch_unwind(panic::AssertUnwindSafe(work))
        .map_err(|payload| format!("the parser failed: {}", message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it says nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch(|| 5), Ok(5));
        let index = 7;
        assert_eq!(catch(|| panic!("index {index}")), Err::<(), _>("the parser failed: index 7".into()));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("the parser failed: plain".into()));
        assert!(catch(|| panic::panic_any(1)).is_err_and(|reason: String| reason.ends_with("says nothing")));
    }
}

//! `strftime_now`, by which a template writes the date.

use chrono::DateTime;
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

/// Formats a time, in seconds since 1970-01-01 UTC, as Python's `strftime`.
pub fn format(seconds: i64, format: &str) -> Result<String, Error> {
    let refused = || Error::new(ErrorKind::InvalidOperation, format!("`{format}` is no format of a date"));
    let time = DateTime::from_timestamp(seconds, 0).ok_or_else(refused)?;
    let mut text = String::new();
    // chrono fails only now for a format that it does not know.
    write!(text, "{}", time.format(format)).map_err(|_| refused())?;
    Ok(text)
}

/// Seconds since 1970-01-01 UTC at the beginning of a date like `2026-01-31`.
pub fn seconds_of_date(date: &str) -> Option<i64> {
    let date: chrono::NaiveDate = date.parse().ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        // python3 -c 'import datetime; print(datetime.datetime(2026, 3, 7, 14, 5, 9).strftime("…"))'
        let at = 1_772_892_309;
        assert_eq!(format(at, "%d %b %Y").unwrap(), "07 Mar 2026");
        assert_eq!(format(at, "%Y-%m-%d %H:%M:%S %A %j %-d").unwrap(), "2026-03-07 14:05:09 Saturday 066 7");
        assert!(format(at, "%Q").is_err());
        assert_eq!(format(seconds_of_date("2026-01-31").unwrap(), "%F %T").unwrap(), "2026-01-31 00:00:00");
        assert_eq!(seconds_of_date("tomorrow"), None);
    }
}

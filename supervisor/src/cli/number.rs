//! Numbers as they are typed: what is not one is reported with its option and what the option takes.

use std::fmt::Display;
use std::str::FromStr;

use ipc_protocol::failure::{Failure, Field};

/// The value of an option that is about `field`; `takes` says which values there are.
///
/// # Errors
/// A refused value.
pub fn option<T: FromStr>(
    field: Field,
    name: &str,
    text: Option<&str>,
    takes: &str,
) -> Result<Option<T>, Failure> {
    text.map(|text| {
        text.parse()
            .map_err(|_| Failure::bad_value(field, wrong(text, name, takes)))
    })
    .transpose()
}

/// The same for what clap reads before any command runs: a whole number from 0 on.
///
/// # Errors
/// The sentence.
pub fn argument<T: FromStr>(name: &str, text: &str, takes: &str) -> Result<T, String> {
    text.parse().map_err(|_| wrong(text, name, takes))
}

fn wrong(text: &str, name: impl Display, takes: &str) -> String {
    format!("{text:?} is not possible: {name} takes {takes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_number_is_reported_with_its_option_and_what_that_takes() {
        let takes = "a whole number from 1 on";
        for wrong in ["x", "", "-1", "1.5", "99999999999999999999"] {
            let read = option::<u32>(Field::Steps, "--steps", Some(wrong), takes);
            let message = read.expect_err(wrong).to_string();
            let expected = format!("steps: {wrong:?} is not possible: --steps takes {takes}");
            assert_eq!(message, expected);
        }
        let read = option::<u32>(Field::Steps, "--steps", Some("4"), takes);
        assert_eq!(read, Ok(Some(4)));
        assert_eq!(
            option::<u32>(Field::Steps, "--steps", None, takes),
            Ok(None)
        );
    }
}

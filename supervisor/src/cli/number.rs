//! Parses numbers on the command line; errors name the option and the values it takes.

use std::fmt::Display;
use std::str::FromStr;

use ipc_protocol::failure::{Failure, Field};

/// Parses the value of the option `name`. `takes` describes the valid values for the error.
///
/// # Errors
/// The value does not parse; the failure names `field`.
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

/// Parses an argument for clap, which prints the error itself.
///
/// # Errors
/// The message, if the value does not parse.
pub fn argument<T: FromStr>(name: &str, text: &str, takes: &str) -> Result<T, String> {
    text.parse().map_err(|_| wrong(text, name, takes))
}

fn wrong(text: &str, name: impl Display, takes: &str) -> String {
    format!("{text:?} is invalid: {name} takes {takes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_number_is_reported_with_its_option_and_the_valid_values() {
        let takes = "a whole number, 1 or more";
        for wrong in ["x", "", "-1", "1.5", "99999999999999999999"] {
            let read = option::<u32>(Field::Steps, "--steps", Some(wrong), takes);
            let message = read.expect_err(wrong).to_string();
            let expected = format!("steps: {wrong:?} is invalid: --steps takes {takes}");
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

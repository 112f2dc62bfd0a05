//! Sends one request for the daemon, which has no HTTP client itself: a hook of its settings.

use std::process::ExitCode;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use store::order::BODY_VARIABLE;
use tokio::runtime;

use crate::http::reasons;

/// Sends a POST request to `address`, with the JSON in [`BODY_VARIABLE`] if it is set. Prints on stderr why it failed.
pub fn run(address: &str) -> ExitCode {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let sent = match runtime {
        Ok(runtime) => runtime.block_on(send(address)),
        Err(error) => Err(error.to_string()),
    };
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn send(address: &str) -> Result<(), String> {
    let address = Url::parse(address).map_err(|error| error.to_string())?;
    let client = Client::builder()
        .user_agent(concat!("imagepool/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let request = match std::env::var(BODY_VARIABLE) {
        Ok(body) => client
            .post(address)
            .header(CONTENT_TYPE, "application/json")
            .body(body),
        Err(_) => client.post(address),
    };
    let answer = request.send().await.map_err(|error| reasons(&error))?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answers {}", answer.status())),
    }
}

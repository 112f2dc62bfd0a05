//! Quotas of users: refused with the time at which they open again, and counted for each user alone.

mod fixture;

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::failure::{FailureKind, Field};
use ipc_protocol::request::{ImageRequest, Priority};
use pool::{Action, Quotas, Settings, UserQuota};

use fixture::{PoolFixture, host, model, refusals, request, settings};

const MINUTE: Duration = Duration::from_secs(60);

/// A pool of the models `a` and `b` with these quotas.
fn pool_with(quotas: Quotas) -> PoolFixture {
    let settings = Settings {
        quotas,
        ..settings()
    };
    let models = vec![model("a", 100), model("b", 100)];
    PoolFixture::with(settings, models, host(1000))
}

fn per_hour(limit: u32) -> UserQuota {
    UserQuota {
        jobs_per_hour: Some(limit),
        ..UserQuota::default()
    }
}

fn of_ann(quota: UserQuota) -> Quotas {
    Quotas {
        accounts: BTreeMap::from([("uid:7".to_owned(), quota)]),
        names: BTreeMap::from([("ann".to_owned(), "uid:7".to_owned())]),
        others: None,
    }
}

fn accepted(actions: &[Action]) -> bool {
    let accepts = |action: &Action| matches!(action, Action::Accept(_));
    actions.iter().any(accepts)
}

fn pictures(count: u32) -> ImageRequest {
    ImageRequest {
        count,
        ..request("a")
    }
}

#[test]
fn a_full_quota_is_refused_until_its_oldest_jobs_are_an_hour_old() {
    let mut fixture = pool_with(of_ann(per_hour(3)));
    assert!(accepted(&fixture.ask_as(pictures(2), "uid:7")));
    fixture.pass_alive(MINUTE);
    assert!(accepted(&fixture.ask_as(pictures(1), "uid:7")));
    let refused = refusals(&fixture.ask_as(pictures(2), "uid:7"));
    assert_eq!(refused[0].kind, FailureKind::QuotaExceeded);
    assert_eq!(refused[0].retry_after_ms, Some(59 * 60_000));
    let text = &refused[0].message;
    assert!(
        text.contains("3 of 3 jobs") && text.contains("open again in 3540 s"),
        "{text}"
    );
    assert!(
        accepted(&fixture.ask_as(pictures(3), "uid:8")),
        "it has no quota"
    );
    fixture.now = fixture.now + 59 * MINUTE;
    assert!(accepted(&fixture.ask_as(pictures(2), "uid:7")));
}

#[test]
fn more_pictures_than_a_quota_ever_has_are_a_bad_value() {
    let mut fixture = pool_with(of_ann(per_hour(3)));
    let refused = refusals(&fixture.ask_as(pictures(4), "uid:7"));
    assert_eq!(refused[0].kind, FailureKind::BadValue);
    assert_eq!(refused[0].field, Some(Field::Count));
    assert!(refused[0].message.contains("jobs_per_hour"), "{refused:?}");
}

#[test]
fn all_clients_of_an_account_share_its_quota() {
    let mut fixture = pool_with(of_ann(per_hour(2)));
    assert!(accepted(&fixture.ask_as(pictures(1), "uid:7/left")));
    assert!(accepted(&fixture.ask_as(pictures(1), "ann")));
    let refused = refusals(&fixture.ask_as(pictures(1), "uid:7/right"));
    assert_eq!(refused[0].kind, FailureKind::QuotaExceeded);
}

#[test]
fn the_quota_of_others_is_counted_for_each_of_them() {
    let quotas = Quotas {
        others: Some(per_hour(1)),
        ..of_ann(per_hour(5))
    };
    let mut fixture = pool_with(quotas);
    assert!(accepted(&fixture.ask_as(pictures(1), "uid:1")));
    assert!(accepted(&fixture.ask_as(pictures(1), "uid:2")));
    let refused = refusals(&fixture.ask_as(pictures(1), "uid:2"));
    assert_eq!(refused[0].kind, FailureKind::QuotaExceeded);
    assert!(accepted(&fixture.ask_as(pictures(5), "uid:7")));
}

#[test]
fn refused_requests_do_not_count() {
    let mut fixture = pool_with(of_ann(per_hour(1)));
    let invalid = ImageRequest {
        steps: Some(1000),
        ..request("a")
    };
    assert_eq!(refusals(&fixture.ask_as(invalid, "uid:7")).len(), 1);
    assert!(accepted(&fixture.ask_as(request("a"), "uid:7")));
}

#[test]
fn models_and_priorities_beyond_the_quota_are_not_permitted() {
    let quota = UserQuota {
        models: Some(vec!["a".into()]),
        priority_max: Priority::Low,
        ..UserQuota::default()
    };
    let mut fixture = pool_with(of_ann(quota));
    let refused = refusals(&fixture.ask_as(request("b"), "uid:7"));
    assert_eq!(refused[0].kind, FailureKind::NotPermitted);
    assert_eq!(refused[0].field, Some(Field::Model));
    assert!(refused[0].message.contains("use a"), "{refused:?}");
    let urgent = ImageRequest {
        priority: Priority::High,
        ..request("a")
    };
    let refused = refusals(&fixture.ask_as(urgent, "uid:7"));
    assert_eq!(refused[0].kind, FailureKind::NotPermitted);
    assert!(refused[0].message.contains("use low"), "{refused:?}");
    assert!(
        accepted(&fixture.ask_as(request("a"), "uid:7")),
        "it runs as low"
    );
}

//! The pool as a library: the same workers, without a daemon.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::DeviceConstraint;
use supervisor::config;
use supervisor::text_to_image::{
    FluxSchnell, ImageGenerationChunk, ImageGenerationConfig, StableDiffusion35Turbo,
    TextToImageModel, TextToImagePool, text_to_image_pool,
};
use tests::binaries::Binaries;

const SETTINGS: &str = "[hub]\noffline = true\n[models.syn]\nfamily = \"synthetic\"";

fn with_pool(work: impl AsyncFnOnce(TextToImagePool)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let config = config::parse(SETTINGS).expect("settings");
        let pool = text_to_image_pool(&config, Binaries::built().worker()).expect("a pool");
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, work(pool))
            .await
            .expect("a synthetic picture takes less than a minute");
    });
}

#[test]
fn a_stream_has_its_steps_and_exactly_one_end() {
    with_pool(async |pool| {
        assert!(!pool.has_workers("syn").await.expect("the pool lives"));
        let config = ImageGenerationConfig {
            steps: Some(3),
            seed: Some(7),
            ..ImageGenerationConfig::default()
        };
        let mut stream = pool
            .generate_image("syn", "anything", &config, DeviceConstraint::Auto)
            .await;
        let mut steps = Vec::new();
        let picture = loop {
            match stream.next().await.expect("an end before the end") {
                ImageGenerationChunk::Step { index, total, .. } => steps.push((index, total)),
                ImageGenerationChunk::Complete(picture) => break picture,
                ImageGenerationChunk::Error(error) => panic!("{error}"),
            }
        };
        assert_eq!(steps, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(picture.rgb8.len(), 256 * 256 * 3);
        assert_eq!(picture.facts.seed, 7);
        assert!(stream.next().await.is_none());
        assert!(pool.has_workers("syn").await.expect("the pool lives"));
        assert!(pool.total_memory_mb().await.expect("the pool lives") > 0);
    });
}

#[test]
fn a_chunk_whose_wait_was_dropped_is_the_next_one() {
    with_pool(async |pool| {
        let config = ImageGenerationConfig::default();
        let mut stream = pool
            .generate_image("syn", "anything", &config, DeviceConstraint::Auto)
            .await;
        // The worker is not even there: this call is given up for certain.
        let given_up = tokio::time::timeout(Duration::ZERO, stream.next()).await;
        assert!(given_up.is_err());
        let mut steps = 0;
        while let ImageGenerationChunk::Step { .. } = stream.next().await.expect("an end") {
            steps += 1;
        }
        assert_eq!(steps, 4);
    });
}

#[test]
fn what_cannot_be_is_an_error_of_the_library_too() {
    with_pool(async |pool| {
        let unknown = pool.spawn_text_to_image_worker("nonsense").await;
        assert!(unknown.is_err_and(|why| why.message.contains("no such process")));
        let config = ImageGenerationConfig {
            width: Some(256),
            ..ImageGenerationConfig::default()
        };
        let mut stream = pool
            .generate_image("syn", "anything", &config, DeviceConstraint::Auto)
            .await;
        let refused = stream.next().await;
        assert!(
            matches!(refused, Some(ImageGenerationChunk::Error(why)) if why.message.contains("both or neither"))
        );
        assert!(stream.next().await.is_none());
    });
}

#[test]
fn an_error_is_the_streams_only_item() {
    with_pool(async |pool| {
        let config = ImageGenerationConfig::default();
        assert_eq!(FluxSchnell.registry_key(), "flux-schnell");
        let mut stream = StableDiffusion35Turbo
            .generate_image(&pool, "a fox", &config, DeviceConstraint::Auto)
            .await;
        match stream.next().await.expect("one item") {
            ImageGenerationChunk::Error(error) => {
                assert_eq!(error.kind, FailureKind::ModelMissing, "{error}");
            }
            other => panic!("files that are not there drew {other:?}"),
        }
        assert!(stream.next().await.is_none());
    });
}

#[test]
fn a_worker_can_be_there_before_the_first_request() {
    with_pool(async |pool| {
        pool.spawn_text_to_image_worker("syn")
            .await
            .expect("a worker");
        assert!(pool.has_workers("syn").await.expect("the pool lives"));
    });
}

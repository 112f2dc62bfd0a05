//! Previews: after each step for who asks for them, nothing for who does not.

use ipc_protocol::client::Update;
use ipc_protocol::request::ImageRequest;
use tests::daemon::TestDaemon;
use tests::job::request;

/// Size of each preview of a picture, and the bytes of the last one and of the picture.
fn drawn(daemon: &TestDaemon, previews: bool) -> (Vec<(u32, u32)>, Vec<u8>, Vec<u8>) {
    let wanted = ImageRequest {
        previews,
        ..request("pocket-flux", 4, 7)
    };
    let (mut sizes, mut last, mut picture) = (Vec::new(), Vec::new(), Vec::new());
    let mut client = daemon.client();
    for update in client.generate(&wanted).expect("a good request") {
        match update.expect("the daemon stays") {
            Update::Preview { size, rgb8, .. } => {
                sizes.push((size.width, size.height));
                last = rgb8;
            }
            Update::Picture(done) => picture = done.rgb8,
            Update::Failed { failure, .. } => panic!("{failure:?}"),
            Update::Waiting { .. } | Update::Loading { .. } | Update::Step { .. } => {}
        }
    }
    (sizes, last, picture)
}

/// Mean colour of the left and the right half of a picture so wide.
fn halves(rgb8: &[u8], width: usize) -> [[f64; 3]; 2] {
    let mean = |right: bool| {
        let half = |at: &usize| (at % width >= width / 2) == right;
        let pixels: Vec<usize> = (0..rgb8.len() / 3).filter(half).collect();
        [0, 1, 2].map(|channel| {
            let sum: f64 = pixels
                .iter()
                .map(|at| f64::from(rgb8[at * 3 + channel]))
                .sum();
            sum / pixels.len() as f64
        })
    };
    [mean(false), mean(true)]
}

#[test]
fn who_asks_sees_each_step_in_the_pictures_colours_and_draws_the_same_picture() {
    let daemon = TestDaemon::start("");
    let (none, _, undisturbed) = drawn(&daemon, false);
    assert!(none.is_empty());
    let (sizes, last, picture) = drawn(&daemon, true);
    assert_eq!(sizes, [(16, 16); 4]);
    assert!(picture == undisturbed, "looking changes nothing");
    // A red circle on the left, a blue square on the right: both tell the sides apart alike.
    let ([left, right], [seen_left, seen_right]) = (halves(&picture, 128), halves(&last, 16));
    for channel in [0, 2] {
        let (is, seen) = (
            left[channel] - right[channel],
            seen_left[channel] - seen_right[channel],
        );
        assert!(is * seen > 0.0, "channel {channel}: {is} and {seen}");
    }
}

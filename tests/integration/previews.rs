//! Previews: for who asks for them, after each step, and each nearer to the picture.

use ipc_protocol::client::{Picture, Update};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use supervisor::picture::scale::scale;
use tests::daemon::TestDaemon;
use tests::job::request;

/// The previews of a picture, each with its size, and the picture.
fn drawn(daemon: &TestDaemon, wanted: &ImageRequest) -> (Vec<(PictureSize, Vec<u8>)>, Picture) {
    let (mut previews, mut picture) = (Vec::new(), None);
    let mut client = daemon.client();
    for update in client.generate(wanted).expect("a good request") {
        match update.expect("the daemon stays") {
            Update::Preview { size, rgb8, .. } => previews.push((size, rgb8)),
            Update::Picture(done) => picture = Some(*done),
            Update::Failed { failure, .. } => panic!("{failure:?}"),
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Step { .. }
            | Update::DaemonLost
            | Update::AcceptedAgain(_) => {}
        }
    }
    (previews, picture.expect("every job has an answer"))
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
    let wanted = |previews| ImageRequest {
        previews,
        ..request("pocket-flux", 4, 7)
    };
    let (none, undisturbed) = drawn(&daemon, &wanted(false));
    assert!(none.is_empty());
    let (previews, picture) = drawn(&daemon, &wanted(true));
    let sizes: Vec<String> = previews.iter().map(|(size, _)| size.to_string()).collect();
    assert_eq!(sizes, ["16x16"; 4]);
    assert!(picture.rgb8 == undisturbed.rgb8, "looking changes nothing");
    let (picture, last) = (picture.rgb8, &previews[3].1);
    // A red circle on the left, a blue square on the right: both tell the sides apart alike.
    let ([left, right], [seen_left, seen_right]) = (halves(&picture, 128), halves(last, 16));
    for channel in [0, 2] {
        let (is, seen) = (
            left[channel] - right[channel],
            seen_left[channel] - seen_right[channel],
        );
        assert!(is * seen > 0.0, "channel {channel}: {is} and {seen}");
    }
}

/// Mean difference of a preview, scaled to the picture's size, to the picture, in 1/255 of white.
fn distance(picture: &Picture, (size, rgb8): &(PictureSize, Vec<u8>)) -> f64 {
    let scaled = scale(*size, rgb8, picture.size);
    let differences = scaled.iter().zip(&picture.rgb8);
    let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / scaled.len() as f64
}

#[test]
fn previews_after_each_quarter_of_the_steps_are_nearer_and_nearer_to_the_picture() {
    let daemon = TestDaemon::start("");
    for (steps, seed) in [(4, 1), (4, 7), (8, 1), (8, 2)] {
        let wanted = ImageRequest {
            previews: true,
            ..request("pocket-flux", steps, seed)
        };
        let (previews, picture) = drawn(&daemon, &wanted);
        let quarter = steps as usize / 4;
        let shown = previews.iter().skip(quarter - 1).step_by(quarter).take(3);
        let distances: Vec<f64> = shown.map(|preview| distance(&picture, preview)).collect();
        println!("{steps} steps, seed {seed}: {distances:.2?}");
        assert_eq!(distances.len(), 3);
        assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
        // A pixel for each latent value has no sharp edges; a black picture is 240 away.
        assert!(distances[0] < 12.0, "{distances:?}");
    }
}

#[test]
fn previews_of_every_family_resemble_the_picture() {
    let daemon = TestDaemon::start("[models.pocket-sd3]");
    for model in ["pocket-flux", "pocket-sd3"] {
        let wanted = ImageRequest {
            previews: true,
            ..request(model, 4, 7)
        };
        let (previews, picture) = drawn(&daemon, &wanted);
        for preview in &previews {
            let distance = distance(&picture, preview);
            assert!(distance < 12.0, "{model}: {distance}");
        }
    }
}

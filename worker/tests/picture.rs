//! The embedded model's pictures: colours, bytes, and refused values.

#![allow(
    clippy::disallowed_methods,
    reason = "the number of threads is that of a whole process, so the tests start processes"
)]

mod altered;

use altered::Altered;
use ipc_protocol::ids::Device;
use std::path::{Path, PathBuf};
use std::process::Command;
use worker::fault::WorkerFault;
use worker::pipelines::families::flux::POCKET;
use worker::pipelines::{JobParameters, LatentCheckpoint, ModelOrigin, Pipeline, Rgb8, load};

const PROMPT: &str = "a red circle left of a blue square on a white background";

/// The ten colours of the model's training.
const COLOURS: [(&str, [u8; 3]); 10] = [
    ("red", [220, 38, 48]),
    ("green", [38, 166, 76]),
    ("blue", [44, 86, 220]),
    ("yellow", [246, 208, 44]),
    ("purple", [142, 62, 186]),
    ("orange", [246, 140, 32]),
    ("pink", [246, 140, 182]),
    ("black", [24, 24, 28]),
    ("white", [250, 250, 250]),
    ("gray", [140, 144, 150]),
];

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pocket-flux")
}

fn model(source: &ModelOrigin) -> Box<dyn Pipeline> {
    load(source, Device::Host, &mut |_| {}).expect("a good model")
}

fn job() -> JobParameters {
    let prompt = PROMPT.to_owned();
    JobParameters {
        prompt,
        negative: None,
        width: 128,
        height: 128,
        steps: 4,
        guidance: 0.0,
        seed: 1,
    }
}

fn draw(model: &mut dyn Pipeline, job: &JobParameters, from: Option<LatentCheckpoint>) -> Rgb8 {
    let mut run = model.start(job, from).expect("a good job");
    while run.steps_done() < job.steps {
        run.step(&|| false).expect("it is not cancelled");
    }
    run.decode().expect("a picture")
}

fn nearest(pixel: &[u8]) -> &'static str {
    let distance = |colour: &[u8; 3]| {
        let squares = colour
            .iter()
            .zip(pixel)
            .map(|(a, b)| (i32::from(*a) - i32::from(*b)).pow(2));
        squares.sum::<i32>()
    };
    let (name, _) = COLOURS
        .iter()
        .min_by_key(|(_, colour)| distance(colour))
        .expect("ten colours");
    name
}

/// The share of a colour in the pixels of the columns that `wanted` accepts.
fn share(picture: &Rgb8, colour: &str, wanted: impl Fn(u32) -> bool) -> f64 {
    let columns = (0..picture.height).flat_map(|_| 0..picture.width);
    let (pixels, _) = picture.bytes.as_chunks::<3>();
    let seen: Vec<&str> = columns
        .zip(pixels)
        .filter(|(x, _)| wanted(*x))
        .map(|(_, pixel)| nearest(pixel))
        .collect();
    seen.iter().filter(|name| **name == colour).count() as f64 / seen.len() as f64
}

fn shows_the_prompt(picture: &Rgb8) -> bool {
    let middle = picture.width / 2;
    let (red, blue) = (
        share(picture, "red", |x| x < middle),
        share(picture, "blue", |x| x >= middle),
    );
    let white = share(picture, "white", |_| true);
    println!("red {red:.3} of the left, blue {blue:.3} of the right, white {white:.3} of all");
    red > 0.06 && blue > 0.06 && white > 0.40
}

#[test]
fn the_colours_of_the_prompt_are_on_the_requested_sides() {
    let picture = draw(
        model(&ModelOrigin::Embedded(&POCKET)).as_mut(),
        &job(),
        None,
    );
    assert!(shows_the_prompt(&picture));
}

#[test]
fn without_its_final_layer_the_transformer_ignores_the_prompt() {
    let copy = Altered::copy_of(&assets());
    for tensor in [
        "linear.weight",
        "linear.bias",
        "adaLN_modulation.1.weight",
        "adaLN_modulation.1.bias",
    ] {
        let tensor = format!("final_layer.{tensor}");
        copy.tensor("flux1-schnell.safetensors", &tensor, |bytes| bytes.fill(0));
    }
    let source = ModelOrigin::Folder {
        path: copy.path().to_owned(),
        family: None,
    };
    assert!(!shows_the_prompt(&draw(
        model(&source).as_mut(),
        &job(),
        None
    )));
}

#[test]
fn a_folder_with_the_embedded_files_draws_the_same_bytes() {
    let folder = ModelOrigin::Folder {
        path: assets(),
        family: None,
    };
    let small = JobParameters {
        width: 64,
        height: 96,
        steps: 2,
        ..job()
    };
    let [embedded, folder] = [ModelOrigin::Embedded(&POCKET), folder]
        .map(|source| draw(model(&source).as_mut(), &small, None));
    assert_eq!(embedded, folder);
}

#[test]
fn a_picture_resumed_from_any_step_is_the_same() {
    let mut model = model(&ModelOrigin::Embedded(&POCKET));
    let job = JobParameters {
        width: 64,
        height: 80,
        steps: 5,
        ..job()
    };
    let whole = draw(model.as_mut(), &job, None);
    for steps_done in 0..=5 {
        let mut run = model.start(&job, None).expect("a good job");
        while run.steps_done() < steps_done {
            run.step(&|| false).expect("it is not cancelled");
        }
        let bytes = run.latents().expect("latents in memory");
        drop(run);
        assert_eq!(bytes.len(), model.latents_bytes(64, 80));
        let again = draw(
            model.as_mut(),
            &job,
            Some(LatentCheckpoint { steps_done, bytes }),
        );
        assert!(again == whole, "taken up after step {steps_done}");
    }
}

/// The root mean square difference of a preview from the means of a picture's 8x8 blocks, in 0..255.
fn apart(preview: &Rgb8, picture: &Rgb8) -> f64 {
    let (columns, rows) = (preview.width as usize, preview.height as usize);
    let mut squares = 0.0;
    for (i, value) in preview.bytes.iter().enumerate() {
        let (x, y, channel) = (i / 3 % columns, i / 3 / columns, i % 3);
        let places = (0..8).flat_map(|row| (0..8).map(move |column| (row, column)));
        let at = |(row, column)| ((y * 8 + row) * columns * 8 + x * 8 + column) * 3 + channel;
        let sum: f64 = places.map(|p| f64::from(picture.bytes[at(p)])).sum();
        squares += (f64::from(*value) - sum / 64.0).powi(2);
    }
    (squares / (columns * rows * 3) as f64).sqrt()
}

#[test]
fn a_preview_is_closer_to_its_own_picture_than_to_pictures_with_other_backgrounds() {
    let mut model = model(&ModelOrigin::Embedded(&POCKET));
    let grounds = ["white", "black", "blue", "yellow"];
    let drawn = grounds.map(|ground| {
        let job = JobParameters {
            prompt: format!("a red circle left of a green square on a {ground} background"),
            seed: 1001,
            ..job()
        };
        let mut run = model.start(&job, None).expect("a good job");
        while run.steps_done() < job.steps {
            run.step(&|| false).expect("it is not cancelled");
        }
        let preview = run.preview().expect("latents in memory");
        let preview = preview.expect("a step is done");
        assert_eq!((preview.width, preview.height), (16, 16));
        (preview, run.decode().expect("a picture"))
    });
    for (i, (preview, _)) in drawn.iter().enumerate() {
        let far = |j: &usize| apart(preview, &drawn[*j].1);
        let others = (0..drawn.len()).filter(|&j| j != i).map(|j| far(&j));
        let other = others.min_by(f64::total_cmp).expect("four grounds");
        println!("{}: {:.1} of 255, another {other:.1}", grounds[i], far(&i));
        // The map gives mean colours of the latents; the decoder does not keep these means exactly.
        assert!(far(&i) * 10.0 < other, "{}", grounds[i]);
    }
}

/// Environment variable of a child of the test below: the file for its picture.
const CHILD: &str = "WORKER_TEST_PICTURE";

/// Uses child processes, because the number of threads is that of a whole process.
#[test]
fn one_two_and_four_threads_draw_the_same_bytes() {
    const NAME: &str = "one_two_and_four_threads_draw_the_same_bytes";
    if let Ok(path) = std::env::var(CHILD) {
        let picture = draw(
            model(&ModelOrigin::Embedded(&POCKET)).as_mut(),
            &job(),
            None,
        );
        return std::fs::write(path, picture.bytes).expect("the parent's folder is writable");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pictures = [1, 2, 4].map(|threads| {
        let path = folder.path().join(threads.to_string());
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
        child.args(["--exact", NAME]).env(CHILD, &path);
        child.env("RAYON_NUM_THREADS", threads.to_string());
        assert!(child.output().expect("this program runs").status.success());
        std::fs::read(path).expect("the child's picture")
    });
    assert_eq!(pictures[0].len(), 128 * 128 * 3);
    assert!(pictures.iter().all(|picture| *picture == pictures[0]));
}

#[test]
fn unsupported_values_are_refused_with_the_field() {
    let mut model = model(&ModelOrigin::Embedded(&POCKET));
    let refused = [
        (
            JobParameters {
                width: 120,
                ..job()
            },
            "size",
        ),
        (JobParameters { height: 0, ..job() }, "size"),
        (JobParameters { steps: 0, ..job() }, "steps"),
        (
            JobParameters {
                guidance: 3.5,
                ..job()
            },
            "guidance",
        ),
        (
            JobParameters {
                negative: Some("blur".to_owned()),
                ..job()
            },
            "negative",
        ),
    ];
    for (job, field) in refused {
        let fault = model.start(&job, None).err();
        assert!(
            matches!(fault, Some(WorkerFault::BadRequest { field: f, .. }) if f == field),
            "{field}"
        );
    }
    let torn = Some(LatentCheckpoint {
        steps_done: 1,
        bytes: vec![0; 7],
    });
    assert!(matches!(
        model.start(&job(), torn).err(),
        Some(WorkerFault::BadRequest { .. })
    ));
}

#[test]
fn a_prompt_is_counted_in_tokens_and_a_longer_one_than_the_model_reads_is_cut() {
    let mut model = model(&ModelOrigin::Embedded(&POCKET));
    let long = JobParameters {
        prompt: format!(
            "{PROMPT}, and a green star, and a yellow heart, and a black cross, and a pink ring"
        ),
        ..job()
    };
    let mut read = |job: &JobParameters| {
        let reading = model.start(job, None).expect("a good job").reading();
        (reading.was_cut, reading.tokens)
    };
    let words = |count: usize| JobParameters {
        prompt: vec!["red"; count].join(" "),
        ..job()
    };
    // Each word is a token, and the end token counts.
    assert_eq!(read(&words(1)), (false, 2));
    assert_eq!(read(&words(7)), (false, 8));
    let (cut, most) = read(&long);
    assert!(cut);
    assert_eq!(read(&words(most as usize)), (true, most));
    assert_eq!(read(&words(most as usize - 1)), (false, most));
}

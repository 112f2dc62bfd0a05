//! Stable Diffusion 3.5 as a pipeline: refused values, placement of encoders, and f16.

mod altered;

use altered::Altered;
use candle_core::{DType, Device};
use ipc_protocol::ids;
use std::path::{Path, PathBuf};
use worker::fault::WorkerFault;
use worker::pipelines::encoders::Encoders;
use worker::pipelines::families;
use worker::pipelines::families::sd3::Sd3;
use worker::pipelines::model::LoadedModel;
use worker::pipelines::{
    ComputeSettings, JobParameters, LatentCheckpoint, ModelOrigin, Pipeline, Rgb8, load_with,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny-sd3")
}

fn job() -> JobParameters {
    JobParameters {
        prompt: "a red circle left of a blue square".to_owned(),
        negative: None,
        width: 64,
        height: 80,
        steps: 3,
        guidance: 0.0,
        seed: 7,
    }
}

fn model(encoders: Encoders) -> Box<dyn Pipeline> {
    let settings = ComputeSettings {
        encoders,
        ..ComputeSettings::default()
    };
    let source = ModelOrigin::Folder {
        path: folder(),
        family: None,
    };
    load_with(&source, ids::Device::Host, settings, &mut |_| {}).expect("a good folder")
}

fn draw(model: &mut dyn Pipeline, job: &JobParameters, from: Option<LatentCheckpoint>) -> Rgb8 {
    let mut run = model.start(job, from).expect("a good job");
    while run.steps_done() < job.steps {
        run.step(&|| false).expect("it is not cancelled");
    }
    run.decode().expect("a picture")
}

#[test]
fn a_negative_prompt_is_refused_without_guidance_and_changes_the_picture_with_it() {
    let mut model = model(Encoders::Keep);
    let negative = Some("a green star".to_owned());
    for guidance in [0.0, 1.0] {
        let job = JobParameters {
            negative: negative.clone(),
            guidance,
            ..job()
        };
        let fault = model.start(&job, None).err().expect("nothing would use it");
        let said = fault.to_string();
        assert!(
            said.starts_with("negative") && said.contains("set guidance above 1"),
            "{said}"
        );
    }
    let guided = JobParameters {
        guidance: 4.0,
        ..job()
    };
    let away = JobParameters {
        negative,
        ..guided.clone()
    };
    let pictures = [job(), guided, away].map(|job| draw(model.as_mut(), &job, None));
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2]);
}

#[test]
fn guidance_up_to_1_needs_one_evaluation_and_gives_the_same_picture() {
    let mut model = model(Encoders::Keep);
    let whole = JobParameters {
        guidance: 1.0,
        ..job()
    };
    let [none, whole] = [job(), whole].map(|job| draw(model.as_mut(), &job, None));
    assert_eq!(none, whole);
}

#[test]
fn unsupported_values_are_refused_with_the_field() {
    let mut model = model(Encoders::Keep);
    let change = |change: fn(&mut JobParameters)| {
        let mut job = job();
        change(&mut job);
        job
    };
    let refused = [
        (change(|job| job.width = 72), "size"),
        (change(|job| job.width = 16 * 25), "size"), // 24 patches are the table's side
        (change(|job| job.steps = 0), "steps"),
        (change(|job| job.guidance = 10.5), "guidance"),
        (change(|job| job.guidance = f32::NAN), "guidance"),
        (change(|job| job.guidance = -1.0), "guidance"),
    ];
    for (job, field) in refused {
        let fault = model.start(&job, None).map(|mut run| run.step(&|| false));
        let fault = fault.and_then(|step| step).err();
        let named = matches!(fault, Some(WorkerFault::BadRequest { field: f, .. }) if f == field);
        assert!(named, "{field}: {fault:?}");
    }
}

#[test]
fn every_placement_of_the_encoders_draws_the_same_bytes() {
    let pictures = [Encoders::Keep, Encoders::Drop, Encoders::Cpu]
        .map(|encoders| draw(model(encoders).as_mut(), &job(), None));
    assert!(pictures.iter().all(|picture| *picture == pictures[0]));
}

#[test]
fn the_second_picture_of_a_prompt_does_not_run_the_encoders() {
    for encoders in [Encoders::Keep, Encoders::Drop] {
        let settings = ComputeSettings {
            encoders,
            ..ComputeSettings::default()
        };
        let files = families::files::<Sd3>(&folder()).expect("a good folder");
        let model = LoadedModel::load(files, &Device::Cpu, settings, &mut |_| {});
        let mut model = model.expect("good files");
        let first = draw(&mut model, &job(), None);
        assert_eq!(model.encoders().runs(), 1);
        assert_eq!(draw(&mut model, &job(), None), first);
        assert_eq!(model.encoders().runs(), 1);
    }
}

#[test]
fn a_picture_resumed_from_any_step_is_the_same() {
    let mut model = model(Encoders::Keep);
    let job = JobParameters {
        guidance: 2.5,
        ..job()
    };
    let whole = draw(model.as_mut(), &job, None);
    for steps_done in 0..=job.steps {
        let mut run = model.start(&job, None).expect("a good job");
        while run.steps_done() < steps_done {
            run.step(&|| false).expect("it is not cancelled");
        }
        let bytes = run.latents().expect("latents in memory");
        drop(run);
        assert_eq!(bytes.len(), model.latents_bytes(job.width, job.height));
        let again = draw(
            model.as_mut(),
            &job,
            Some(LatentCheckpoint { steps_done, bytes }),
        );
        assert!(again == whole, "taken up after step {steps_done}");
    }
}

#[test]
fn a_preview_has_one_pixel_per_latent_value_after_the_first_step() {
    let mut model = model(Encoders::Keep);
    let mut run = model.start(&job(), None).expect("a good job");
    assert_eq!(run.preview().expect("nothing to compute"), None);
    run.step(&|| false).expect("it is not cancelled");
    let preview = run
        .preview()
        .expect("latents in memory")
        .expect("a step is done");
    assert_eq!((preview.width, preview.height), (8, 10));
    assert_eq!(preview.bytes.len(), 8 * 10 * 3);
}

#[test]
fn a_prompt_over_256_t5_tokens_is_cut_and_reported() {
    let mut model = model(Encoders::Keep);
    // Each word has three tokens, and the end token counts.
    for (words, expected) in [(4, (false, 13)), (85, (false, 256)), (86, (true, 256))] {
        let job = JobParameters {
            prompt: "red ".repeat(words),
            ..job()
        };
        let run = model.start(&job, None).expect("a good job");
        let reading = run.reading();
        assert_eq!((reading.was_cut, reading.tokens), expected);
    }
}

/// The addition to the exponent of a 16-bit float that makes it 1024 times as large.
const TIMES_1024: u16 = 10 << 10;

/// Scales T5's last product of the first block until its output exceeds 65504, as with published weights.
#[test]
fn t5_in_f16_handles_values_over_the_range_of_f16() {
    let copy = Altered::copy_of(&folder());
    for part in ["wi_1", "wo"] {
        let tensor = format!("encoder.block.0.layer.1.DenseReluDense.{part}.weight");
        copy.tensor("t5xxl.safetensors", &tensor, |bytes| {
            for word in bytes.as_chunks_mut::<2>().0 {
                *word = (u16::from_le_bytes(*word) + TIMES_1024).to_le_bytes();
            }
        });
    }
    let encode = |dtype| {
        let settings = ComputeSettings {
            dtype,
            ..ComputeSettings::default()
        };
        let files = families::files::<Sd3>(copy.path()).expect("a good folder");
        let model =
            LoadedModel::load(files, &Device::Cpu, settings, &mut |_| {}).expect("good files");
        let ids = model.tokenizers().ids(&job().prompt, None).expect("words");
        let states = model
            .encoders()
            .held()
            .and_then(|held| held.t5(&ids.t5.ids));
        let states = states.expect("states").flatten_all();
        states.and_then(|s| s.to_dtype(DType::F32)?.to_vec1::<f32>())
    };
    let [wide, half] = [DType::F32, DType::F16].map(|dtype| encode(dtype).expect("f32 values"));
    assert!(half.iter().all(|value| value.is_finite()));
    let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let apart = square(&mut wide.iter().zip(&half).map(|(a, b)| a - b));
    let relative = (apart / square(&mut wide.iter().copied())).sqrt();
    assert!(relative < 1e-2, "{relative}");
}

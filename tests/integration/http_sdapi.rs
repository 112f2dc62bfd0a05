//! A1111's API at the HTTP door. The bodies are the ones that its clients send.

use serde_json::{Value, json};
use tests::daemon::TestDaemon;
use tests::http::{HttpClient, from_base64};
use tests::pixels::Pixels;

const SETTINGS: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[models.pocket-sd3]\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

/// The field `info`, which is JSON in a text.
fn info(reply: &Value) -> Value {
    let text = reply["info"].as_str().expect("info is a text");
    serde_json::from_str(text).expect("of JSON")
}

/// The values of the last line of the only picture's text.
fn values(reply: &Value) -> String {
    let info = info(reply);
    let texts = info["infotexts"].as_array().expect("a list");
    assert_eq!(texts.len(), 1, "{texts:?}");
    let text = texts[0].as_str().expect("a text");
    text.lines().last().expect("it has lines").to_owned()
}

/// Width and height of the pictures.
fn sizes(reply: &Value) -> Vec<(usize, usize)> {
    let images = reply["images"].as_array().expect("a list of pictures");
    let size = |image| {
        let pixels = Pixels::decode(&from_base64(image));
        (pixels.width, pixels.height)
    };
    images.iter().map(size).collect()
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|entry| entry[field].as_str().expect("a name").to_owned())
        .collect()
}

fn txt2img(client: &HttpClient, body: &Value) -> Value {
    client.post("/sdapi/v1/txt2img", body).ok()
}

#[test]
fn open_webui_verifies_lists_selects_and_draws_with_basic_authentication() {
    let daemon = TestDaemon::start(SETTINGS);
    let client = daemon
        .http_tcp()
        .with_password("webui", &daemon.http_token());
    let mut options = client.get("/sdapi/v1/options").ok();
    assert_eq!(options["sd_model_checkpoint"], "pocket-flux");
    let models = client.get("/sdapi/v1/sd-models").ok();
    assert_eq!(names(&models, "title"), names(&models, "model_name"));
    assert_eq!(
        names(&models, "title"),
        ["pocket-flux", "pocket-sd3", "syn"]
    );
    options["sd_model_checkpoint"] = models[2]["title"].clone();
    assert_eq!(client.post("/sdapi/v1/options", &options).status, 200);
    let body = json!({"prompt": "a red circle", "batch_size": 2, "width": 512, "height": 512, "steps": 50,
        "negative_prompt": ""});
    let reply = txt2img(&client, &body);
    assert_eq!(sizes(&reply), [(512, 512); 2]);
    assert_eq!(info(&reply)["sd_model_name"], "syn");
    assert_eq!(reply["parameters"], body);
    let again = client.get("/sdapi/v1/options").ok();
    assert_eq!(again["sd_model_checkpoint"], "syn");
    let other = daemon.http().get("/sdapi/v1/options").ok();
    assert_eq!(
        other["sd_model_checkpoint"], "pocket-flux",
        "it is another client"
    );
}

#[test]
fn librechat_reads_picture_size_seed_and_text() {
    let daemon = TestDaemon::start(SETTINGS);
    let body = json!({"prompt": "a red circle left of a blue square", "negative_prompt": "blurry, dark",
        "cfg_scale": 4.5, "steps": 22, "width": 1024, "height": 1024});
    let reply = txt2img(&daemon.http(), &body);
    assert_eq!(sizes(&reply), [(1024, 1024)]);
    let info = info(&reply);
    assert_eq!(
        (&info["width"], &info["height"]),
        (&json!(1024), &json!(1024))
    );
    let seed = info["seed"].as_u64().expect("a number");
    assert!(seed < 1 << 53, "JavaScript reads it exactly");
    assert_eq!(info["all_seeds"], json!([seed]));
    let text = info["infotexts"][0].as_str().expect("a text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "a red circle left of a blue square");
    assert_eq!(lines[1], "Negative prompt: blurry, dark");
    let begin =
        format!("Steps: 22, Sampler: Euler, CFG scale: 0, Seed: {seed}, Size: 1024x1024, Model");
    assert!(lines[2].starts_with(&begin), "{text}");
    for warning in [
        "draws 256x256, which is scaled",
        "CFG scale 4.5 has no effect",
        "negative prompt has no effect",
    ] {
        assert!(lines[2].contains(warning), "{warning}: {text}");
    }
}

#[test]
fn sillytavern_finds_every_list_and_waits_for_the_model_it_selects() {
    let daemon = TestDaemon::start(SETTINGS);
    let client = daemon.http_tcp().with_password("", &daemon.http_token());
    let list = |name: &str| client.get(&format!("/sdapi/v1/{name}")).ok();
    assert_eq!(names(&list("samplers"), "name"), ["Euler"]);
    assert_eq!(names(&list("schedulers"), "name"), ["automatic"]);
    assert_eq!(names(&list("upscalers"), "name"), ["None"]);
    for name in ["latent-upscale-modes", "sd-vae", "sd-modules", "loras"] {
        assert_eq!(list(name), json!([]), "{name}");
    }
    let selected = client.post(
        "/sdapi/v1/options",
        &json!({"sd_model_checkpoint": "pocket-sd3"}),
    );
    assert_eq!(selected.status, 200);
    let progress = list("progress");
    assert_eq!(
        (&progress["progress"], &progress["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
    let body = json!({"prompt": "a red circle", "negative_prompt": "a blue square", "sampler_name": "Euler",
        "scheduler": "Automatic", "steps": 2, "cfg_scale": 4, "width": 128, "height": 128, "restore_faces": false,
        "enable_hr": true, "hr_upscaler": "None", "hr_scale": 1.5, "hr_additional_modules": [],
        "denoising_strength": 0.7, "hr_second_pass_steps": 0, "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": true, "clip_skip": 1, "save_images": true, "send_images": true,
        "do_not_save_grid": false, "do_not_save_samples": false, "alwayson_scripts": {}});
    let reply = txt2img(&client, &body);
    assert_eq!(sizes(&reply), [(128, 128)]);
    let values = values(&reply);
    assert!(
        values.contains("CFG scale: 4,") && values.contains("Model: pocket-sd3"),
        "{values}"
    );
    assert!(
        values.ends_with("Warnings: \"enable_hr has no effect\""),
        "{values}"
    );
}

#[test]
fn sillytaverns_other_source_pings_lists_models_and_draws() {
    let daemon = TestDaemon::start(SETTINGS);
    let open = daemon.http_tcp();
    assert_eq!(
        open.send("OPTIONS", "/v1/images/generations", None)
            .reply()
            .status,
        204
    );
    let client = open.with_token(&daemon.http_token());
    let models = client.get("/v1/models").ok();
    assert!(names(&models["data"], "id").contains(&"sd-cpp-local".to_owned()));
    let body = json!({"prompt": "a red circle", "negative_prompt": "", "width": 512, "height": 768, "steps": 20,
        "cfg_scale": 7, "seed": -1, "batch_size": 1, "sampler_name": "euler_a", "scheduler": "karras",
        "clip_skip": -1});
    let reply = txt2img(&client, &body);
    assert_eq!(sizes(&reply), [(512, 768)]);
    let values = values(&reply);
    for warning in ["sampler_name", "scheduler"] {
        assert!(values.contains(warning), "{values}");
    }
}

#[test]
fn values_beyond_a_model_are_brought_into_its_range_and_the_text_says_so() {
    let daemon = TestDaemon::start(SETTINGS);
    let client = daemon.http();
    let body = json!({"prompt": "a red circle", "negative_prompt": "a blue square", "steps": 500, "cfg_scale": 30,
        "width": 100, "height": 72, "seed": 7, "override_settings": {"sd_model_checkpoint": "pocket-sd3 [0123456789]"}});
    let reply = txt2img(&client, &body);
    assert_eq!(sizes(&reply), [(100, 72)]);
    let values = values(&reply);
    assert!(values.contains("Seed: 7, Size: 100x72, Model"), "{values}");
    for warning in [
        "500 steps are not from 1 to",
        "CFG scale 30 is not from 0 to 10",
        "it draws 96x80",
    ] {
        assert!(values.contains(warning), "{warning}: {values}");
    }
    assert!(!values.contains("negative"), "it is followed: {values}");
    let none = json!({"prompt": "a red circle", "negative_prompt": "a blue square", "cfg_scale": 1, "steps": -3,
        "override_settings": {"sd_model_checkpoint": "pocket-sd3"}});
    let values = self::values(&txt2img(&client, &none));
    assert!(
        values.starts_with("Steps: 1, ") && values.contains("the negative prompt has no effect"),
        "{values}"
    );
}

#[test]
fn the_picture_is_the_one_of_openais_door_with_its_receipt() {
    let daemon = TestDaemon::start(SETTINGS);
    let client = daemon.http();
    let sdapi = txt2img(
        &client,
        &json!({"prompt": "a red circle", "seed": 7, "batch_size": 1, "n_iter": 2}),
    );
    let body = json!({"prompt": "a red circle", "seed": 7, "n": 2});
    let openai = client.post("/v1/images/generations", &body).ok();
    assert_eq!(info(&sdapi)["all_seeds"], json!([7, 8]));
    for nth in 0..2 {
        let (ours, theirs) = (&sdapi["images"][nth], &openai["data"][nth]["b64_json"]);
        assert!(ours == theirs && ours.is_string(), "{nth}");
    }
    let none = txt2img(
        &client,
        &json!({"prompt": "a red circle", "send_images": false}),
    );
    assert_eq!(none["images"], json!([]));
    assert!(values(&none).contains("Model: pocket-flux"));
}

#[test]
fn errors_have_the_field_that_these_clients_read() {
    let daemon = TestDaemon::start(SETTINGS);
    let client = daemon.http();
    for (body, status, param) in [
        (json!({"prompt": "x", "batch_size": 11}), 400, "batch_size"),
        (
            json!({"prompt": "x", "batch_size": 4, "n_iter": 3}),
            400,
            "batch_size",
        ),
        (json!({"prompt": "x", "width": 64}), 400, "height"),
        (json!({"prompt": 3}), 400, "prompt"),
        (
            json!({"prompt": "x", "override_settings": {"sd_model_checkpoint": "nobody"}}),
            404,
            "model",
        ),
    ] {
        let reply = client.post("/sdapi/v1/txt2img", &body);
        let value = reply.json();
        assert_eq!(
            (reply.status, &value["error"]["param"]),
            (status, &json!(param)),
            "{body}"
        );
        assert!(
            value["detail"].is_string() && value["detail"] == value["error"]["message"],
            "{value}"
        );
    }
    let reply = client.post(
        "/sdapi/v1/options",
        &json!({"sd_model_checkpoint": "nobody"}),
    );
    assert_eq!(
        (reply.status, reply.json()["detail"].is_string()),
        (404, true)
    );
    let refused = daemon.http_tcp().get("/sdapi/v1/options");
    assert_eq!(
        (refused.status, refused.json()["detail"].is_string()),
        (401, true)
    );
    let refused = daemon
        .http_tcp()
        .with_password("a", "wrong")
        .get("/sdapi/v1/options");
    assert_eq!(refused.status, 401);
    assert_eq!(client.get("/sdapi/v1/txt2img").status, 405);
    assert_eq!(
        client.get("/v1/nothing").json()["detail"],
        Value::Null,
        "this is no route of theirs"
    );
}

#[test]
fn the_routes_can_be_switched_off() {
    let daemon = TestDaemon::start("[http]\na1111 = false\n");
    let client = daemon.http();
    assert_eq!(client.get("/sdapi/v1/options").status, 404);
    assert_eq!(
        client
            .post("/sdapi/v1/txt2img", &json!({"prompt": "x"}))
            .status,
        404
    );
    assert_eq!(client.get("/v1/models").status, 200);
}

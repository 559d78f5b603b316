//! Exit statuses, help, and what is printed where.

mod common;

use std::process::{Command, Stdio};

use common::{fails, keys, ocelli, succeeds};

#[test]
fn wrong_usage_is_status_2() {
    let wrong: [&[&str]; 12] = [
        &[],
        &["fly"],
        &["predict"],
        &["evaluate"],
        &["evaluate", "--model", "resnet18"],
        &["evaluate", "--run", "a", "--model", "b", "--weights", "c"],
        &["bench", "resnet18", "--batch", "0"],
        &["bench", "resnet18", "--train", "--int8"],
        &["bench", "resnet18", "--train", "--f16"],
        &["bench", "resnet18", "--int8", "--f16"],
        &["evaluate", "--run", "runs/none", "--calibration", "5"],
        &["convert", "a.pth", "b.safetensors", "--dtype", "f17"],
    ];
    for arguments in wrong {
        let output = ocelli(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    let commands = ["train", "evaluate", "predict", "models", "summary", "forward", "bench", "convert"];
    let overview = succeeds(["--help"]);
    for command in commands {
        assert!(overview.contains(&format!("  {command} ")), "{overview}");
        let help = succeeds([command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("ocelli {command}")), "{help}");
    }
    assert_eq!(succeeds(["--version"]), format!("ocelli {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn output_that_is_piped_has_no_colour() {
    for arguments in [["models"].as_slice(), &["summary", "resnet8"]] {
        assert!(!succeeds(arguments).contains('\u{1b}'));
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ocelli"))
        .arg("models")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), [].as_slice()));
}

#[test]
fn the_models_are_listed() {
    let models = common::json(["models", "--json"]);
    let models = models.as_array().expect("a list");
    for model in models {
        assert_eq!(keys(model), ["family", "input_size", "macs", "name", "parameters"]);
    }
    let resnet50 = models.iter().find(|model| model["name"] == "resnet50").expect("ResNet-50");
    assert_eq!((resnet50["parameters"].as_u64(), resnet50["input_size"].as_u64()), (Some(25_557_032), Some(224)));
    assert!(succeeds(["models"]).lines().any(|line| line.starts_with("resnet50 ") && line.contains("25,557,032")));
}

#[test]
fn a_summary_adds_up() {
    for model in ["resnet18", "resnet20", "plain20", "efficientnet_b0", "tf_efficientnet_lite0"] {
        let summary = common::json(["summary", model, "--json"]);
        assert_eq!(keys(&summary), ["input_size", "layers", "macs", "memory", "model", "parameters"]);
        let layers = summary["layers"].as_array().expect("a list");
        for (key, total) in
            [("parameters", &summary["parameters"]), ("macs", &summary["macs"]), ("memory", &summary["memory"])]
        {
            let sum: u64 = layers.iter().map(|layer| layer[key].as_u64().expect("a number")).sum();
            assert_eq!(Some(sum), total.as_u64(), "{model}: {key}");
        }
        let listed = common::json(["models", "--json"]);
        let listed = listed.as_array().expect("a list").iter().find(|row| row["name"] == model).expect("it is listed");
        assert_eq!((&summary["parameters"], &summary["macs"]), (&listed["parameters"], &listed["macs"]), "{model}");
    }
}

#[test]
fn models_are_filtered_by_name_or_family() {
    let names = |arguments: &[&str]| -> Vec<String> {
        let models = common::json(arguments.iter().copied().chain(["--json"]));
        models.as_array().expect("a list").iter().map(|row| row["name"].as_str().expect("a text").into()).collect()
    };
    assert_eq!(names(&["models", "RESNEXT50"]), ["resnext50_32x4d", "legacy_seresnext50_32x4d"]);
    assert!(names(&["models", "cifar plain"]).iter().all(|name| name.starts_with("plain")));
    assert!(fails(["models", "mobilenet"]).contains("\"mobilenet\""));
    let families = succeeds(["models", "--families"]);
    assert!(families.lines().any(|line| line.starts_with("Wide ResNet ") && line.contains(" 2 ")), "{families}");
}

#[test]
fn published_weights_are_listed() {
    let weights = common::json(["models", "--weights", "resnet50", "--json"]);
    let v2 = weights.as_array().expect("a list").iter().find(|row| row["name"] == "resnet50.IMAGENET1K_V2");
    let v2 = v2.expect("torchvision's");
    assert_eq!(keys(v2), ["address", "licence", "model", "name", "parameters", "preprocessing", "top1"]);
    assert_eq!((&v2["top1"], &v2["preprocessing"]["resize"]), (&80.858.into(), &232.into()));
    let table = succeeds(["models", "--weights", "resnet50.IMAGENET1K_V2"]);
    assert!(table.contains("25,557,032") && table.contains("80.86 %"), "{table}");
}

#[test]
fn a_drawing_is_written_to_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resnet20.svg");
    assert_eq!(succeeds(["summary", "resnet20", "--graph", path.to_str().expect("a path")]), "");
    let picture = std::fs::read_to_string(&path).expect("the drawing");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && picture.contains(">×3<"), "{picture}");
    assert!(fails(["summary", "resnet20", "--graph", "missing/x.svg"]).contains("missing/x.svg: cannot write"));
}

#[test]
fn a_typo_is_answered_with_the_nearest_names() {
    for arguments in [
        ["summary", "resnet81"].as_slice(),
        &["bench", "resnet81"],
        &["train", "--model", "resnet81", "--out", "nowhere/run"],
        &["forward", "--model", "resnet81", "--input", "x", "--output", "y"],
    ] {
        let error = fails(arguments);
        assert!(error.contains("\"resnet81\"") && error.contains("did you mean resnet18"), "{error}");
    }
}

#[test]
fn a_benchmark_reports_what_it_measured() {
    let inference = [None, Some("--int8"), Some("--f16")].map(|option| ("inference", option));
    for (mode, option) in inference.into_iter().chain([("training", Some("--train"))]) {
        let arguments = ["bench", "resnet8", "--batch", "2", "--threads", "1", "--json"].into_iter().chain(option);
        let report = common::json(arguments);
        let expected = ["batch", "gflops", "median_ms", "min_ms", "mode", "model", "peak_rss_mib", "runs", "threads"];
        assert_eq!(keys(&report), expected);
        assert_eq!((&report["mode"], &report["batch"], &report["threads"]), (&mode.into(), &2.into(), &1.into()));
        assert!(report["runs"].as_u64() >= Some(10) && report["gflops"].as_f64() > Some(0.0), "{report}");
        assert!(report["min_ms"].as_f64() <= report["median_ms"].as_f64(), "{report}");
    }
}

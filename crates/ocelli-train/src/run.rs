//! The folder of a training run: `config.json`, `last.safetensors`, `best.safetensors`, `metrics.csv`, `curves.png`.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_zoo::Model;
use ocelli_zoo::nn::checkpoint::{Checkpoint, write_atomically};

use crate::{Config, Error, Result};

/// A training run's folder and its settings.
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    config: Config,
}

impl Run {
    /// Starts a run: makes the folder and writes `config.json` into it. Fails if a run is there already, or if a
    /// setting is out of its domain.
    pub fn create(folder: &Path, config: Config) -> Result<Run> {
        config.validate()?;
        let run = Run { folder: folder.to_owned(), config };
        if run.config_path().exists() {
            return Err(Error::data(folder, "holds a training run already: resume it, or choose another folder"));
        }
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let json = serde_json::to_string_pretty(&run.config).map_err(|e| Error::data(folder, e.to_string()))?;
        write_atomically(run.config_path(), json.as_bytes())?;
        Ok(run)
    }

    /// The run in `folder`.
    pub fn open(folder: &Path) -> Result<Run> {
        let path = folder.join("config.json");
        if !path.exists() {
            let reason = if folder.is_dir() { "no training run (no config.json)" } else { "no such folder" };
            return Err(Error::data(folder, reason));
        }
        let json = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        let config: Config = serde_json::from_str(&json).map_err(|e| Error::data(&path, e.to_string()))?;
        config.validate().map_err(|e| Error::data(&path, e.to_string()))?;
        Ok(Run { folder: folder.to_owned(), config })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// For settings of this session alone, such as [`Config::detect_anomalies`]: `config.json` keeps the others.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The weights of the best epoch, without anything else. Fails if no epoch has ended yet.
    pub fn best(&self) -> Result<Checkpoint> {
        let path = self.best_path();
        if !path.exists() {
            return Err(Error::data(&self.folder, "no epoch of this run has ended yet (no best.safetensors)"));
        }
        Ok(Checkpoint::read(path)?)
    }

    /// The network of the best epoch, ready for use.
    pub fn best_model(&self) -> Result<Model> {
        let model = Model::zeroed(&self.config.model, self.config.model_options())?;
        let in_file = |e: ocelli_zoo::Error| Error::data(&self.best_path(), e.to_string());
        model.load(&self.best()?).map_err(in_file)?;
        Ok(model)
    }

    /// `config.json`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// `last.safetensors`: all that resuming needs.
    pub fn last_path(&self) -> PathBuf {
        self.folder.join("last.safetensors")
    }

    /// `best.safetensors`: the weights of the best epoch, by the names that other programs use.
    pub fn best_path(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// `metrics.csv`.
    pub fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }

    /// `curves.png`.
    pub fn curves_path(&self) -> PathBuf {
        self.folder.join("curves.png")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_created_once_and_opened_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("runs/one");
        let run = Run::create(&folder, Config::digits("resnet8")).unwrap();
        assert_eq!(Run::open(&folder).unwrap().config(), run.config());
        let error = Run::create(&folder, Config::digits("resnet8")).unwrap_err().to_string();
        assert!(error.ends_with("holds a training run already: resume it, or choose another folder"), "{error}");
        let error = run.best().unwrap_err().to_string();
        assert!(error.ends_with("no epoch of this run has ended yet (no best.safetensors)"), "{error}");
        fs::write(run.config_path(), "{").unwrap();
        assert!(Run::open(&folder).unwrap_err().to_string().contains("config.json: "));
        assert!(Run::open(root.path()).unwrap_err().to_string().ends_with("no training run (no config.json)"));
        assert!(Run::open(&folder.join("x")).unwrap_err().to_string().ends_with("no such folder"));
    }
}

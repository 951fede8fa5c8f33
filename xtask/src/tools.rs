//! Programs that the commands need: found, installed under `target/`, or asked for by package name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, command, output, root, run, say, succeeds, target};

/// Checks for what cannot be installed from here, and says what to install.
pub(crate) fn check_host() -> Result<()> {
    let needed: [(&str, &[&str], &str); 4] = [
        ("cc", &["--version"], "a C compiler: install the package gcc"),
        (
            "python3",
            &["-c", "import venv, ensurepip"],
            "Python with venv: install the packages python3 and python3-venv",
        ),
        ("node", &["--version"], "Node.js 20 or later: install the package nodejs"),
        ("npm", &["--version"], "npm: install the package npm"),
    ];
    let is_missing = |(program, arguments, _): &&(&str, &[&str], &str)| !succeeds(&mut command(program, arguments));
    let missing: Vec<_> = needed.iter().filter(is_missing).map(|(.., hint)| *hint).collect();
    if !missing.is_empty() {
        bail!("missing on this machine:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

/// A cargo subcommand, installed under `target/tools` when the machine does not have it.
pub(crate) fn cargo_tool(name: &str) -> Result<PathBuf> {
    let program = format!("cargo-{name}");
    let answers = |path: &Path| succeeds(&mut command(path, &["--help"]));
    if answers(Path::new(&program)) {
        return Ok(program.into());
    }
    let folder = root().join("target/tools");
    let path = folder.join("bin").join(&program);
    if !answers(&path) {
        say(&format!("{program} is not installed: building it once, under target/tools"));
        let mut install = cargo(&["install", "--quiet", "--locked", &program, "--root"]);
        // Its own build folder is kept, so that an interrupted build goes on.
        run(install.arg(&folder).arg("--target-dir").arg(folder.join("build")))?;
    }
    Ok(path)
}

/// The interpreter of a virtual environment under `target/` with these requirements installed.
pub(crate) fn python(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = root().join("target").join(name);
    let interpreter = folder.join("bin/python");
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == requirements) {
        return Ok(interpreter);
    }
    run(command("python3", &["-m", "venv"]).arg(&folder)).context("install the package python3-venv")?;
    let wanted = folder.join("wanted.txt");
    std::fs::write(&wanted, requirements)?;
    run(command(&interpreter, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted))?;
    std::fs::rename(wanted, stamp)?;
    Ok(interpreter)
}

/// A folder under `target/` whose `node_modules` holds the Node SDK tests' dependencies.
pub(crate) fn node_modules() -> Result<PathBuf> {
    let folder = root().join("target/node");
    std::fs::create_dir_all(&folder)?;
    let wanted = std::fs::read(root().join("tests/sdk/node/package.json"))?;
    let stamp = folder.join("package.json");
    if std::fs::read(&stamp).is_ok_and(|have| have == wanted)
        && folder.join("node_modules/openai/package.json").exists()
        && folder.join("node_modules/@anthropic-ai/sdk/package.json").exists()
    {
        return Ok(folder);
    }
    std::fs::write(&stamp, wanted)?;
    run(command("npm", &["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder))?;
    Ok(folder)
}

/// A folder under `target/` whose `node_modules` holds exactly what the lock file of `source` names.
pub(crate) fn locked_modules(name: &str, source: &str) -> Result<PathBuf> {
    let (source, folder) = (root().join(source), root().join("target").join(name));
    let lock = std::fs::read(source.join("package-lock.json"))?;
    let stamp = folder.join("installed.json");
    if std::fs::read(&stamp).is_ok_and(|have| have == lock) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(file), folder.join(file))?;
    }
    run(command("npm", &["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder))?;
    std::fs::write(stamp, lock)?;
    Ok(folder)
}

/// The small real model, fetched by the program under test.
pub(crate) fn model(cocoon: &Path) -> Result<PathBuf> {
    let path = output(&mut command(cocoon, &["model", "pull"])).context("the tests need the small model")?;
    Ok(PathBuf::from(path.trim()))
}

/// The small embedding model, likewise; a folder.
pub(crate) fn embedding_model(cocoon: &Path) -> Result<PathBuf> {
    let pull = output(&mut command(cocoon, &["model", "pull", "all-MiniLM-L6-v2"]));
    Ok(PathBuf::from(pull.context("the tests need the small embedding model")?.trim()))
}

/// The recorded vectors: beside the checkout, or where `COCOON_VECTORS` says.
pub(crate) fn vectors() -> PathBuf {
    std::env::var_os("COCOON_VECTORS").map_or_else(|| root().join("../shared/vectors"), PathBuf::from)
}

/// A binary of the dev profile.
pub(crate) fn dev_binary(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

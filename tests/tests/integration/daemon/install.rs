//! `deploy/install.sh`: into a folder that stands for the system, again, dry, and out again; and
//! the manual that it installs.
use integration_tests::{command, documents, supervisor};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Output,
    time::SystemTime,
};
use tempfile::TempDir;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
const CONFIGURATION: &str = "/etc/supervisor/supervisor.toml";

/// A folder that stands for the system, and what is installed into it.
struct System {
    folder: TempDir,
}

/// What there is of a file: permissions, when it was written, length.
type Seen = (u32, SystemTime, u64);

impl System {
    fn new() -> System {
        let folder = TempDir::new().unwrap();
        let made = command(documents()).arg(folder.path().join("documents")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        fs::create_dir(folder.path().join("root")).unwrap();
        System { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where `/` and what follows is in it.
    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(Path::new(DEPLOY).join("install.sh"));
        command.args(arguments).env("DESTDIR", self.root());
        command.output().unwrap()
    }

    /// Calls it with what was built, and returns what it printed.
    fn install(&self, arguments: &[&str]) -> String {
        let documents = self.folder.path().join("documents");
        let built = ["--executable", supervisor().to_str().unwrap(), "--documents", documents.to_str().unwrap()];
        done(&self.call(&[&built, arguments].concat()))
    }

    /// Calls it with what was built; it must say `sentence` and do nothing.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], sentence: &str) {
        let documents = self.folder.path().join("documents");
        let built = ["--executable", supervisor().to_str().unwrap(), "--documents", documents.to_str().unwrap()];
        let files = self.files();
        let output = self.call(&[&built, arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("install.sh: {sentence}\n"));
        assert!(output.stdout.is_empty(), "{output:?}");
        assert_eq!(self.files(), files);
    }

    /// Puts a file there.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Every file, by its path on the system.
    fn files(&self) -> BTreeMap<String, Seen> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(path);
                    continue;
                }
                let seen = (metadata.permissions().mode() & 0o7777, metadata.modified().unwrap(), metadata.size());
                files.insert(format!("/{}", path.strip_prefix(self.root()).unwrap().display()), seen);
            }
        }
        files
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of `output` that begin with `word`, without it.
fn said(output: &str, word: &str) -> Vec<String> {
    let mut names: Vec<_> = output.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn everything_is_installed_once() {
    let system = System::new();
    let printed = system.install(&[]);
    let files = system.files();
    assert_eq!(said(&printed, "install "), system.names(), "what it says is what it does");
    for (name, mode) in [
        ("/usr/local/bin/supervisor", 0o755),
        ("/usr/local/share/man/man1/supervisor.1", 0o644),
        ("/usr/local/share/man/man1/supervisor-generate.1", 0o644),
        ("/usr/local/share/man/man5/supervisor.toml.5", 0o644),
        ("/usr/local/share/bash-completion/completions/supervisor", 0o644),
        ("/usr/local/share/zsh/site-functions/_supervisor", 0o644),
        ("/usr/local/share/fish/vendor_completions.d/supervisor.fish", 0o644),
        ("/usr/local/lib/systemd/system/supervisor.service", 0o644),
        ("/usr/local/lib/systemd/system/supervisor.socket", 0o644),
        ("/usr/local/lib/systemd/system/supervisor-http.socket", 0o644),
        ("/usr/local/lib/sysusers.d/supervisor.conf", 0o644),
        ("/usr/local/lib/tmpfiles.d/supervisor.conf", 0o644),
        (CONFIGURATION, 0o644),
    ] {
        assert_eq!(files.get(name).map(|seen| seen.0), Some(mode), "{name}");
    }
    // One page for the program and one for each command, the hidden one apart.
    let pages = files.keys().filter(|name| name.starts_with("/usr/local/share/man/man1/"));
    let help = done(&command(supervisor()).arg("--help").output().unwrap());
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What does not fit a line goes on further in.
    let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ") && !line.starts_with("  help ");
    assert_eq!(pages.count(), 1 + commands.filter(is_command).count());

    let version = command(system.path("/usr/local/bin/supervisor")).arg("--version").output().unwrap();
    assert!(done(&version).starts_with("supervisor "));
    let unit = fs::read_to_string(system.path("/usr/local/lib/systemd/system/supervisor.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/bin/supervisor run"), "{unit}");
    assert!(unit.contains("\nExecReload=/usr/local/bin/supervisor reload"), "{unit}");

    assert_eq!(system.install(&[]), "nothing to do\n");
    assert_eq!(system.files(), files, "the second time nothing is touched");
}

#[test]
fn a_dry_run_says_all_and_does_nothing() {
    let system = System::new();
    let dry = system.install(&["--dry-run"]);
    assert!(system.names().is_empty());
    assert_eq!(dry, system.install(&[]));
    let files = system.files();
    let dry = done(&system.call(&["--uninstall", "--purge", "--dry-run"]));
    assert_eq!(system.files(), files);
    assert_eq!(dry, done(&system.call(&["--uninstall", "--purge"])));
}

#[test]
fn only_what_is_wrong_is_mended() {
    let system = System::new();
    system.install(&[]);
    fs::write(system.path("/usr/local/bin/supervisor"), "half of it").unwrap();
    let socket = system.path("/usr/local/lib/systemd/system/supervisor.socket");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).unwrap();
    let page = fs::read_to_string(system.path("/usr/local/share/man/man1/supervisor-run.1")).unwrap();
    fs::write(system.path("/usr/local/share/man/man1/supervisor-gone.1"), page).unwrap();
    let printed = system.install(&[]);
    let expected = "install /usr/local/bin/supervisor\nremove /usr/local/share/man/man1/supervisor-gone.1\n\
                    install /usr/local/lib/systemd/system/supervisor.socket\n";
    assert_eq!(printed, expected);
    assert_eq!(system.install(&[]), "nothing to do\n");
}

#[test]
fn an_edited_configuration_stays() {
    let system = System::new();
    system.install(&[]);
    let configuration = system.path(CONFIGURATION);
    fs::write(&configuration, "# mine\n").unwrap();
    assert_eq!(system.install(&[]), "nothing to do\n");
    let model = system.path("/var/lib/supervisor/a.gguf");
    fs::create_dir_all(model.parent().unwrap()).unwrap();
    fs::write(&model, "a model").unwrap();
    // Others' files, with names like ours.
    fs::write(system.path("/usr/local/share/man/man1/supervisor-x.1"), ".TH SUPERVISOR-X 1\n").unwrap();
    fs::write(system.path("/etc/supervisor/other.conf"), "other").unwrap();

    done(&system.call(&["--uninstall"]));
    let others = ["/etc/supervisor/other.conf", "/usr/local/share/man/man1/supervisor-x.1"];
    assert_eq!(system.names(), [others[0], CONFIGURATION, others[1], "/var/lib/supervisor/a.gguf"]);
    assert_eq!(fs::read_to_string(&configuration).unwrap(), "# mine\n");
    assert_eq!(done(&system.call(&["--uninstall"])), "nothing to do\n");

    done(&system.call(&["--uninstall", "--purge"]));
    assert_eq!(system.names(), others);
    fs::remove_file(system.path(others[0])).unwrap();
    system.install(&[]);
    done(&system.call(&["--uninstall", "--purge"]));
    assert!(!system.path("/etc/supervisor").exists(), "an empty folder goes");
}

#[test]
fn the_prefix_is_where_it_all_goes() {
    let system = System::new();
    system.install(&["--prefix", "/opt/super-visor_1.0+"]);
    let names = system.names();
    let elsewhere: Vec<_> = names.iter().filter(|name| !name.starts_with("/opt/super-visor_1.0+/")).collect();
    // systemd looks into no folder of such a prefix.
    let expected = [
        CONFIGURATION,
        "/etc/systemd/system/supervisor-http.socket",
        "/etc/systemd/system/supervisor.service",
        "/etc/systemd/system/supervisor.socket",
        "/etc/sysusers.d/supervisor.conf",
        "/etc/tmpfiles.d/supervisor.conf",
    ];
    assert_eq!(elsewhere, expected);
    let unit = fs::read_to_string(system.path("/etc/systemd/system/supervisor.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/super-visor_1.0+/bin/supervisor run"), "{unit}");
    done(&system.call(&["--uninstall", "--prefix=/opt/super-visor_1.0+/"]));
    assert_eq!(system.names(), [CONFIGURATION]);
}

const PACKAGED: &str = "what is in /usr belongs to Debian's package model-supervisor; apt-get remove model-supervisor";

/// What Debian's package puts there.
fn install_package(system: &System) {
    system.install(&["--prefix=/usr"]);
    system.write("/var/lib/dpkg/info/model-supervisor.list", "/etc/supervisor/supervisor.toml\n/usr/bin/supervisor\n");
    fs::create_dir_all(system.path("/lib")).unwrap();
    fs::rename(system.path("/usr/lib/systemd"), system.path("/lib/systemd")).unwrap();
}

#[test]
fn there_is_one_of_it_on_a_system() {
    let system = System::new();
    system.install(&["--prefix=/opt/supervisor"]);
    let starts = "/etc/systemd/system/supervisor.service starts /opt/supervisor/bin/supervisor";
    system.refuses(&[], &format!("{starts}, which is installed already; remove that first"));
    let sentence = format!("{starts}, so it is installed there; name that prefix with --prefix");
    system.refuses(&["--uninstall", "--purge"], &sentence);
    done(&system.call(&["--uninstall", "--prefix=/opt/supervisor"]));

    install_package(&system);
    system.refuses(&["--prefix=/usr"], PACKAGED);
    system.refuses(&["--uninstall", "--prefix=/usr"], PACKAGED);
    let starts = "/lib/systemd/system/supervisor.service starts /usr/bin/supervisor";
    system.refuses(&[], &format!("{starts}, which is installed already; remove that first"));
    // Of a package that is removed and not purged, the list has its configuration.
    system.write("/var/lib/dpkg/info/model-supervisor.list", "/etc/supervisor/supervisor.toml\n");
    fs::remove_dir_all(system.path("/lib")).unwrap();
    done(&system.call(&["--uninstall", "--prefix=/usr"]));
    system.install(&[]);
}

#[test]
fn an_executable_that_was_copied_is_no_installation() {
    let elsewhere = |starts: &str| format!("{starts}, so it is installed there; name that prefix with --prefix");
    // Beside the package, which runs.
    let system = System::new();
    install_package(&system);
    system.write("/var/lib/supervisor/models/a.gguf", "a model");
    system.write("/usr/local/bin/supervisor", "a copy");
    let starts = "/lib/systemd/system/supervisor.service starts /usr/bin/supervisor";
    for arguments in [&["--uninstall"][..], &["--uninstall", "--purge"], &["--uninstall", "--purge", "--dry-run"]] {
        system.refuses(arguments, &elsewhere(starts));
    }
    system.refuses(&[], &format!("{starts}, which is installed already; remove that first"));
    // Not even if a unit starts it instead of the package's.
    system.write("/etc/systemd/system/supervisor.service", "[Service]\nExecStart=/usr/local/bin/supervisor run\n");
    system.refuses(&["--uninstall", "--purge"], &elsewhere(starts));

    // In a prefix whose units lie in the same folder.
    let system = System::new();
    system.install(&["--prefix=/opt/a"]);
    system.write("/var/lib/supervisor/models/a.gguf", "a model");
    system.write("/opt/b/bin/supervisor", "a copy");
    let starts = "/etc/systemd/system/supervisor.service starts /opt/a/bin/supervisor";
    for arguments in [&["--uninstall", "--prefix=/opt/b"][..], &["--uninstall", "--purge", "--prefix=/opt/b"]] {
        system.refuses(arguments, &elsewhere(starts));
    }
    done(&system.call(&["--uninstall", "--purge", "--prefix=/opt/a"]));
    assert_eq!(system.names(), ["/opt/b/bin/supervisor"]);
    // Where there is nothing else, it is what is removed.
    assert_eq!(done(&system.call(&["--uninstall", "--prefix=/opt/b"])), "remove /opt/b/bin/supervisor\n");
}

#[test]
fn a_unit_that_was_changed_by_hand_is_known_still() {
    let system = System::new();
    let unit = "/etc/systemd/system/supervisor.service";
    let ours = "/opt/a/bin/supervisor";
    let started = |command: &str| {
        // Neither of these lines is what it starts.
        let others = "# ExecStart=/opt/b/bin/supervisor run\nExecStartPre=/opt/c/bin/supervisor run\n";
        system
            .write(unit, &format!("[Service]\n{others}ExecStart={command}\nExecReload=/opt/d/bin/supervisor reload\n"));
    };
    for command in [
        "/opt/a/bin/supervisor run",
        "/usr/bin/nice /opt/a/bin/supervisor run --config /etc/supervisor/supervisor.toml",
        "-/opt/a/bin/supervisor run",
        " !!/opt/a/bin/supervisor\trun",
        "@/opt/a/bin/supervisor supervisor run",
        "+-\"/opt/a/bin/supervisor\" run",
        "/usr/bin/env -C /var/lib/supervisor /opt/a/bin/supervisor run",
        "/bin/sh -c 'exec /opt/a/bin/supervisor run'",
        "/usr/bin/nice \\\n    /opt/a/bin/supervisor \\\n    run",
        "\nExecStart=/opt/a/bin/supervisor run",
        "/opt/a/bin/supervisor run --config /opt/b/bin/supervisor run",
    ] {
        started(command);
        let sentence = format!("{unit} starts {ours}, so it is installed there; name that prefix with --prefix");
        system.refuses(&["--uninstall"], &sentence);
        done(&system.call(&["--uninstall", "--prefix=/opt/a"]));
        assert!(system.names().is_empty(), "{command}");
    }
    for command in
        ["/opt/a/bin/supervisor reload", "/opt/a/bin/supervisor-x run", "/usr/bin/env run /opt/a/bin/supervisor"]
    {
        started(command);
        system.refuses(&[], &format!("{unit} belongs to another program; remove that first"));
    }
}

#[test]
fn the_unit_of_another_program_is_not_removed() {
    let system = System::new();
    let other = "/usr/lib/systemd/system/supervisor.service";
    let text = "[Service]\nExecStart=/usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf\n";
    system.install(&[]);
    system.write(other, text);
    let sentence = format!("{other} belongs to another program; remove that first");
    system.refuses(&[], &sentence);
    // It is not in the place of ours, which can go; but what both may use stays.
    system.refuses(&["--uninstall", "--purge"], &sentence);
    done(&system.call(&["--uninstall"]));
    assert_eq!(system.names(), [CONFIGURATION, other]);
    system.refuses(&["--uninstall", "--prefix=/usr"], &sentence);
}

#[test]
fn mistakes_are_told_in_one_sentence() {
    let system = System::new();
    let other = system.path("/lib/systemd/system/supervisor.service");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "[Service]\nExecStart=/usr/bin/supervisord -n\n").unwrap();
    let documents = system.folder.path().join("documents");
    let documents = documents.to_str().unwrap();
    let executable = supervisor().to_str().unwrap();
    let winding = "the prefix must be written without // and without folders named . or ..";
    for (arguments, status, sentence) in [
        (vec!["--nonsense"], 2, "there is no option --nonsense; see --help"),
        (vec!["--prefix"], 2, "--prefix needs a value; see --help"),
        (vec!["--prefix", "usr"], 2, "the prefix must be an absolute path below /"),
        (vec!["--prefix", "/"], 2, "the prefix must be an absolute path below /"),
        (vec!["--prefix", "/a b"], 2, "the prefix may have letters, digits and . _ / + - only"),
        (vec!["--prefix", "/usr/local/../../etc"], 2, winding),
        (vec!["--prefix=/usr/local/.."], 2, winding),
        (vec!["--prefix=/opt/./a"], 2, winding),
        (vec!["--prefix=//opt"], 2, winding),
        (vec!["--prefix="], 2, "the prefix must be an absolute path below /"),
        (vec!["--purge"], 2, "--purge goes with --uninstall only"),
        (
            vec!["--executable", "/no/such"],
            1,
            "there is no /no/such; build it with cargo build --release, or name it with --executable",
        ),
        (
            vec!["--executable", executable, "--documents", documents],
            1,
            "/lib/systemd/system/supervisor.service belongs to another program; remove that first",
        ),
    ] {
        let output = system.call(&arguments);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("install.sh: {sentence}\n"));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(system.names(), ["/lib/systemd/system/supervisor.service"]);
    assert!(done(&system.call(&["--help"])).starts_with("Usage: install.sh "));
}

#[test]
fn the_manual_names_every_key_and_every_option() {
    let system = System::new();
    let manual = system.folder.path().join("documents/man");
    // What is in bold, without roff's escapes.
    let bold = |name: &str| -> Vec<String> {
        let page = fs::read_to_string(manual.join(name)).unwrap().replace('\\', "");
        page.split("fB").skip(1).filter_map(|rest| rest.split_once("fR")).map(|(bold, _)| bold.to_owned()).collect()
    };
    let keys = bold("supervisor.toml.5");
    let example = fs::read_to_string(Path::new(DEPLOY).join("supervisor.toml")).unwrap();
    let named = example.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
    let names: Vec<_> = named.map(|(name, _)| name).filter(|name| !name.contains(' ')).collect();
    assert!(names.len() > 20 && names.iter().all(|name| keys.iter().any(|key| key == name)), "{names:?} {keys:?}");

    let options = bold("supervisor-generate.1");
    let help = done(&command(supervisor()).args(["generate", "--help"]).output().unwrap());
    let named = help.split_whitespace().map(|word| word.trim_matches([',', '.', '[', ']']));
    for option in named.filter(|word| word.starts_with("--") && word.len() > 2) {
        assert!(options.iter().any(|known| known == option), "{option} {options:?}");
    }
}

#[test]
fn debians_package_has_our_version() {
    let changelog = fs::read_to_string(Path::new(DEPLOY).join("debian/changelog")).unwrap();
    let first = concat!("model-supervisor (", env!("CARGO_PKG_VERSION"), ") ");
    assert!(changelog.starts_with(first), "{changelog}");
}

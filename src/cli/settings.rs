//! Settings by environment: `SHAWK_*`, and the file that `SHAWK_ENV_FILE` names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// Every name that shawk reads, for the warning about one that it does not.
pub const NAMES: [&str; 19] = [
    "SHAWK_CLIENT_CA",
    "SHAWK_CMDB_URL",
    "SHAWK_DEBUG",
    "SHAWK_ENV_FILE",
    "SHAWK_FLUSH_INTERVAL",
    "SHAWK_HOST_ID",
    "SHAWK_HOSTNAME",
    "SHAWK_LABELS",
    "SHAWK_LISTEN",
    "SHAWK_NAME",
    "SHAWK_METRICS",
    "SHAWK_PROBE_FILTER",
    "SHAWK_PROBE_FLUSH_INTERVAL",
    "SHAWK_PROBE_INTERVAL",
    "SHAWK_PROBE_MODE",
    "SHAWK_SPOOL",
    "SHAWK_SPOOL_LIMIT",
    "SHAWK_TLS_CERT",
    "SHAWK_TLS_KEY",
];

/// What the environment says, the process's own before the file's.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// Names that look like settings and are none.
    pub unknown: Vec<String>,
}

impl Settings {
    /// Reads the `SHAWK_*` of `environment`, then those of the file that
    /// `env_file` or `SHAWK_ENV_FILE` names. A variable that is set but empty
    /// counts as unset.
    pub fn read(
        environment: impl Iterator<Item = (OsString, OsString)>,
        env_file: Option<&str>,
    ) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with("SHAWK_") {
                continue;
            }
            let value = value
                .into_string()
                .map_err(|_| format!("{name} is not valid UTF-8; set it to text"))?;
            settings.add(name, value);
        }
        let file = env_file.map(str::to_owned).or_else(|| settings.get("SHAWK_ENV_FILE"));
        if let Some(file) = file {
            let text = std::fs::read_to_string(Path::new(&file)).map_err(|error| {
                format!("cannot read the settings file '{file}' ({error}); see --env-file")
            })?;
            for (number, line) in text.lines().enumerate() {
                let assignment = parse_line(line).map_err(|reason| {
                    format!("'{file}', line {}: {reason}; write NAME=value", number + 1)
                })?;
                if let Some((name, value)) = assignment
                    && settings.get(&name).is_none()
                {
                    settings.add(name, value);
                }
            }
        }
        Ok(settings)
    }

    fn add(&mut self, name: String, value: String) {
        // SHAWK_TEST_* are the test suite's own.
        let known = NAMES.contains(&name.as_str()) || name.starts_with("SHAWK_TEST_");
        if !known && name.starts_with("SHAWK_") {
            self.unknown.push(name);
        } else {
            self.values.insert(name, value);
        }
    }

    /// The value of `name`, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

/// One line of a settings file: `NAME=value`, as a shell or systemd's
/// `EnvironmentFile=` has it, with `export`, quotes around the value, blank
/// lines and lines that begin with `#`.
fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("no '='")?;
    let name = name.trim();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("not a name");
    }
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).map(|rest: &str| rest.strip_suffix(quote));
    let value = match quoted('"').or_else(|| quoted('\'')) {
        Some(Some(inner)) => inner,
        Some(None) => return Err("a quote without its other end"),
        None => value,
    };
    Ok(Some((name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        let owned: Vec<_> = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        owned.into_iter()
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "# fleet\nexport SHAWK_DEBUG=1\nSHAWK_HOSTNAME='a b'\n\nSHAWK_NO=1\nPATH=x\n";
        std::fs::write(file.path(), text).expect("written");
        let path = file.path().to_str().expect("text");
        let pairs = [
            ("SHAWK_DEBUG", "0"),
            ("SHAWK_ENV_FILE", path),
            ("SHAWK_PROBE_INTERVALL", "1s"),
            ("HOME", "/"),
        ];
        let settings = Settings::read(environment(&pairs), None).expect("settings");
        assert_eq!(settings.get("SHAWK_DEBUG").as_deref(), Some("0"));
        assert_eq!(settings.get("SHAWK_HOSTNAME").as_deref(), Some("a b"));
        assert_eq!(settings.unknown, ["SHAWK_PROBE_INTERVALL", "SHAWK_NO"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "SHAWK_DEBUG=1\nnonsense\n").expect("written");
        let path = file.path().to_str().expect("text");
        let error = Settings::read(environment(&[]), Some(path)).expect_err("a bad line");
        assert!(error.contains("line 2: no '='"), "{error}");
        let error = Settings::read(environment(&[]), Some("/no/such")).expect_err("no file");
        assert!(error.contains("/no/such"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let settings =
            Settings::read(environment(&[("SHAWK_CMDB_URL", "")]), None).expect("settings");
        assert_eq!(settings.get("SHAWK_CMDB_URL"), None);
    }
}

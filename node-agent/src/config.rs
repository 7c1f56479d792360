//! What the agent is told at start: flags, then environment, then an optional TOML file. The sole reader of all three.
//!
//! Every value is text until [`read`] has looked at all of them, so that all mistakes are reported together, each
//! with the name of the place it was written in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use http::Uri;
use model::name::NodeName;
use model::node::{LABEL_MAX_BYTES, LABELS_MAX, is_label};
use model::placement::{ATTRIBUTES, NODE_LABEL};
use model::unit::{ByteSize, parse_duration};

use crate::traces;

/// Where the control plane listens unless told otherwise.
const CONTROL_PLANE_DEFAULT: &str = "https://127.0.0.1:7100";
/// Where the agent's API listens unless told otherwise.
const API_LISTEN_DEFAULT: &str = "127.0.0.1:7200";
/// Where the ingress listens unless told otherwise.
const INGRESS_LISTEN_DEFAULT: &str = "127.0.0.1:8000";
/// How long requests under way are waited for at the end: less than the 30 s after which container runtimes kill.
const DRAIN_DEADLINE_DEFAULT: &str = "20s";
/// The longest drain: the longest deadline of one call.
const DRAIN_DEADLINE_MAX: Duration = model::graph::DEADLINE_MAX;
/// Which part of the traces that begin here is recorded unless told otherwise: a collector has been asked for.
const TRACE_RATIO_DEFAULT: &str = "1";

/// Everything the agent is told, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The node's name, unique in the cluster.
    pub name: NodeName,
    /// Where everything that survives a restart is kept.
    pub data_dir: PathBuf,
    /// The members of the control plane, in the order they are tried.
    pub control_plane: Vec<Uri>,
    /// The file of the join token, for a node that has no identity yet.
    pub join_token_file: Option<PathBuf>,
    /// Where the agent's gRPC API listens; port 0 takes a free one.
    pub api_listen: SocketAddr,
    /// Where the HTTP ingress listens; port 0 takes a free one.
    pub ingress_listen: SocketAddr,
    /// The host other machines reach this node by; the one listened on if absent.
    pub advertise: Option<String>,
    /// What constraints select on.
    pub labels: BTreeMap<String, String>,
    /// Memory for guests; `None` takes a share of the machine's.
    pub memory: Option<ByteSize>,
    /// The form of the log on standard error.
    pub log_format: LogFormat,
    /// What is logged, as `tracing` filters write it.
    pub log_filter: String,
    /// How long requests under way are waited for at the end.
    pub drain_deadline: Duration,
    /// Whether guests may reach addresses that are not public, where their graph lists them.
    pub allow_private_egress: bool,
    /// Where traces go; `None` makes none.
    pub traces: Option<traces::Settings>,
}

/// The form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be read, or asked for help or the version.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// One or more settings are wrong.
    #[error("{}", Listed(.0))]
    Mistakes(Vec<Mistake>),
}

/// One setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was written: `--api-listen`, `WEFT_API_LISTEN`, `api-listen in agent.toml`.
    pub place: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "setting is" } else { "settings are" };
        write!(out, "{} {plural} wrong:", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(out, "\n  {}: {}", mistake.place, mistake.problem))
    }
}

/// Weft's node agent: runs the graphs that the control plane assigns to this node.
#[derive(Debug, Default, Parser)]
#[command(name = "node-agent", version, about)]
struct Arguments {
    /// A TOML file of settings: the flags' names without dashes in front; flags and environment win over it.
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's name, unique in the cluster.
    #[arg(long, env = "WEFT_NODE_NAME")]
    name: Option<String>,
    /// Where everything that survives a restart is kept; one agent at a time can use it.
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<String>,
    /// A member of the control plane; repeat it for several [default: https://127.0.0.1:7100].
    #[arg(long, env = "WEFT_CONTROL_PLANE", value_name = "URL", value_delimiter = ',', action = ArgAction::Append)]
    control_plane: Vec<String>,
    /// The file of the join token, with which a node that has no identity yet joins the cluster: `ctl node token NAME`.
    #[arg(long, env = "WEFT_JOIN_TOKEN_FILE", value_name = "FILE")]
    join_token_file: Option<String>,
    /// Where the agent's gRPC API listens; port 0 takes a free one [default: 127.0.0.1:7200].
    #[arg(long, env = "WEFT_API_LISTEN", value_name = "ADDRESS")]
    api_listen: Option<String>,
    /// Where the HTTP ingress listens; port 0 takes a free one [default: 127.0.0.1:8000].
    #[arg(long, env = "WEFT_INGRESS_LISTEN", value_name = "ADDRESS")]
    ingress_listen: Option<String>,
    /// The host other machines reach this node by, if it is not the one listened on.
    #[arg(long, env = "WEFT_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    /// A label that constraints select on; repeat it for several.
    #[arg(long = "label", env = "WEFT_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', action = ArgAction::Append)]
    labels: Vec<String>,
    /// Memory for guests, `2Gi` [default: three quarters of the machine's].
    #[arg(long, env = "WEFT_MEMORY", value_name = "SIZE")]
    memory: Option<String>,
    /// The form of the log on standard error: text or json [default: text].
    #[arg(long, env = "WEFT_LOG_FORMAT", value_name = "FORM")]
    log_format: Option<String>,
    /// What is logged: `info`, `debug`, `info,node_agent::session=trace` [default: info].
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    log_filter: Option<String>,
    /// How long requests under way are waited for at the end [default: 20s].
    #[arg(long, env = "WEFT_DRAIN_DEADLINE", value_name = "DURATION")]
    drain_deadline: Option<String>,
    /// The collector that traces are sent to by OTLP over gRPC, `http://127.0.0.1:4317`; else OTEL_EXPORTER_OTLP_ENDPOINT
    /// [default: no traces].
    #[arg(long, env = "WEFT_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// The part of the traces that is recorded where the client does not say, from 0 to 1; else OTEL_TRACES_SAMPLER_ARG
    /// [default: 1].
    #[arg(long, env = "WEFT_TRACE_RATIO", value_name = "PART")]
    trace_ratio: Option<String>,
    /// Let the ingress listen on an address that is not loopback, without encryption.
    #[arg(long)]
    insecure_listen: bool,
    /// Let guests reach loopback, private and link-local addresses, where their graph's `egress` lists them.
    #[arg(long)]
    allow_private_egress: bool,
}

/// Reads flags, environment and file.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, ConfigError> {
    let matches = Arguments::command().try_get_matches_from(arguments)?;
    let arguments = Arguments::from_arg_matches(&matches)?;
    let mut reader = Reader::default();
    if let Some(path) = &arguments.config {
        reader.file(path);
    }
    let place = |id: &str, flag: &str, variable: &str| match matches.value_source(id) {
        Some(ValueSource::EnvVariable) => variable.to_owned(),
        _ => flag.to_owned(),
    };
    reader.over("name", place("name", "--name", "WEFT_NODE_NAME"), arguments.name);
    reader.over("data-dir", place("data_dir", "--data-dir", "WEFT_DATA_DIR"), arguments.data_dir);
    let listed = place("control_plane", "--control-plane", "WEFT_CONTROL_PLANE");
    reader.over("control-plane", listed, arguments.control_plane);
    let token = place("join_token_file", "--join-token-file", "WEFT_JOIN_TOKEN_FILE");
    reader.over("join-token-file", token, arguments.join_token_file);
    reader.over("api-listen", place("api_listen", "--api-listen", "WEFT_API_LISTEN"), arguments.api_listen);
    let ingress = place("ingress_listen", "--ingress-listen", "WEFT_INGRESS_LISTEN");
    reader.over("ingress-listen", ingress, arguments.ingress_listen);
    reader.over("advertise", place("advertise", "--advertise", "WEFT_ADVERTISE"), arguments.advertise);
    reader.over("labels", place("labels", "--label", "WEFT_LABELS"), arguments.labels);
    reader.over("memory", place("memory", "--memory", "WEFT_MEMORY"), arguments.memory);
    reader.over("log-format", place("log_format", "--log-format", "WEFT_LOG_FORMAT"), arguments.log_format);
    reader.over("log-filter", place("log_filter", "--log-filter", "WEFT_LOG"), arguments.log_filter);
    let drain = place("drain_deadline", "--drain-deadline", "WEFT_DRAIN_DEADLINE");
    reader.over("drain-deadline", drain, arguments.drain_deadline);
    for (id, key, names, text) in [
        ("otlp_endpoint", "otlp-endpoint", OTLP_ENDPOINT_NAMES, arguments.otlp_endpoint),
        ("trace_ratio", "trace-ratio", TRACE_RATIO_NAMES, arguments.trace_ratio),
    ] {
        let [flag, variable, standard] = names;
        // What all programs on a machine may be told in common counts where this one is told nothing.
        match text {
            Some(text) => reader.over(key, place(id, flag, variable), Some(text)),
            None => reader.over(key, standard.to_owned(), standard_variable(standard)),
        }
    }
    reader.insecure_listen |= arguments.insecure_listen;
    reader.allow_private_egress |= arguments.allow_private_egress;
    reader.finish().map_err(ConfigError::Mistakes)
}

/// A flag, its variable, and the one that OpenTelemetry has for all programs.
const OTLP_ENDPOINT_NAMES: [&str; 3] = ["--otlp-endpoint", "WEFT_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const TRACE_RATIO_NAMES: [&str; 3] = ["--trace-ratio", "WEFT_TRACE_RATIO", "OTEL_TRACES_SAMPLER_ARG"];

/// An empty one is none, as OpenTelemetry has it.
fn standard_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Texts of one setting, and where they were written.
struct Written {
    place: String,
    texts: Vec<String>,
}

/// Gathers texts, then turns them into values and mistakes.
#[derive(Default)]
struct Reader {
    written: BTreeMap<&'static str, Written>,
    insecure_listen: bool,
    allow_private_egress: bool,
    mistakes: Vec<Mistake>,
}

/// How a key of the file is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Text,
    List,
    Table,
    Flag,
}

/// Every key of the file.
const KEYS: [(&str, Form); 16] = [
    ("name", Form::Text),
    ("data-dir", Form::Text),
    ("control-plane", Form::List),
    ("join-token-file", Form::Text),
    ("api-listen", Form::Text),
    ("ingress-listen", Form::Text),
    ("advertise", Form::Text),
    ("labels", Form::Table),
    ("memory", Form::Text),
    ("log-format", Form::Text),
    ("log-filter", Form::Text),
    ("drain-deadline", Form::Text),
    ("otlp-endpoint", Form::Text),
    ("trace-ratio", Form::Text),
    ("insecure-listen", Form::Flag),
    ("allow-private-egress", Form::Flag),
];

impl Reader {
    fn wrong(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.into(), problem: problem.into() });
    }

    /// Takes what flags or environment say, over what the file says.
    fn over(&mut self, key: &'static str, place: String, texts: impl IntoIterator<Item = String>) {
        let texts: Vec<String> = texts.into_iter().collect();
        if !texts.is_empty() {
            self.written.insert(key, Written { place, texts });
        }
    }

    fn file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let table = match std::fs::read_to_string(path).map(|text| text.parse::<toml::Table>()) {
            Ok(Ok(table)) => table,
            Ok(Err(error)) => {
                return self.wrong(file, format!("is not TOML: {}", error.to_string().trim_end()));
            }
            Err(error) => return self.wrong(file, format!("cannot be read: {error}")),
        };
        for (key, value) in table {
            let place = format!("{key} in {file}");
            let Some((known, form)) = KEYS.iter().find(|(known, _)| *known == key) else {
                let all = KEYS.map(|(known, _)| known).join(", ");
                self.wrong(place, format!("is no setting; there are: {all}"));
                continue;
            };
            self.value(known, *form, place, value);
        }
    }

    fn value(&mut self, key: &'static str, form: Form, place: String, value: toml::Value) {
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => Some(text),
            _ => None,
        };
        let texts = match (form, value) {
            (Form::Flag, toml::Value::Boolean(on)) => {
                let flag = if key == "insecure-listen" {
                    &mut self.insecure_listen
                } else {
                    &mut self.allow_private_egress
                };
                *flag |= on;
                return;
            }
            (Form::Flag, _) => return self.wrong(place, "must be true or false"),
            (Form::List, toml::Value::Array(values)) => values.into_iter().map(text).collect(),
            (Form::Table, toml::Value::Table(table)) => table
                .into_iter()
                .map(|(key, value)| text(value).map(|value| format!("{key}={value}")))
                .collect(),
            (Form::Text, value) => text(value).map(|text| vec![text]),
            (Form::List | Form::Table, _) => None,
        };
        match (texts, form) {
            (Some(texts), _) => {
                self.written.insert(key, Written { place, texts });
            }
            (None, Form::List) => self.wrong(place, "must be a list of texts in quotes"),
            (None, Form::Table) => self.wrong(place, "must be a table of texts in quotes"),
            (None, Form::Text | Form::Flag) => self.wrong(place, "must be a text in quotes"),
        }
    }

    /// Reads the only text of a setting.
    fn one<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (place, text) = match (self.written.get(key), default) {
            (Some(written), _) => (written.place.clone(), written.texts.first().cloned().unwrap_or_default()),
            (None, Some(default)) => (format!("--{key}"), default.to_owned()),
            (None, None) => return None,
        };
        parse(&text).map_err(|error| self.wrong(place, error.to_string())).ok()
    }

    /// Reads the only text of a setting that must be there.
    fn needed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.written.contains_key(key) {
            self.wrong(format!("--{key}"), format!("is missing: {what}"));
        }
        self.one(key, None, parse)
    }

    fn control_plane(&mut self) -> Vec<Uri> {
        let default = Written { place: String::new(), texts: vec![CONTROL_PLANE_DEFAULT.to_owned()] };
        let written = self.written.remove("control-plane").unwrap_or(default);
        let mut members = Vec::new();
        for text in written.texts {
            match member(&text) {
                Ok(uri) => members.push(uri),
                Err(problem) => self.wrong(written.place.clone(), problem),
            }
        }
        members
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let Some(written) = self.written.remove("labels") else { return BTreeMap::new() };
        let mut labels = BTreeMap::new();
        for text in &written.texts {
            match label(text) {
                Err(problem) => self.wrong(written.place.clone(), problem),
                Ok((key, _)) if labels.contains_key(key) => {
                    self.wrong(written.place.clone(), format!("`{key}` is given twice"));
                }
                Ok((key, value)) => {
                    labels.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        if labels.len() > LABELS_MAX {
            self.wrong(written.place, format!("a node has at most {LABELS_MAX} labels"));
        }
        labels
    }

    fn listen(&mut self, key: &'static str, default: &str, advertised: bool) -> Option<SocketAddr> {
        // The API speaks TLS with those it knows.
        let insecure = self.insecure_listen || key == "api-listen";
        self.one(key, Some(default), |text| {
            let address: SocketAddr =
                text.parse().map_err(|_| format!("`{text}` is not an address: write 127.0.0.1:7200 or [::1]:0"))?;
            if !address.ip().is_loopback() && !insecure {
                return Err(format!(
                    "{address} is not a loopback address, and the ingress does not encrypt what it serves: listen \
                     on 127.0.0.1 or [::1], or add --insecure-listen if the network itself is trusted"
                ));
            }
            if address.ip().is_unspecified() && !advertised {
                return Err(format!(
                    "{address} is no address others can reach: add --advertise with this node's host name or address"
                ));
            }
            Ok(address)
        })
    }

    fn finish(mut self) -> Result<Config, Vec<Mistake>> {
        let name = self.needed("name", "every node of a cluster has its own name", |text| {
            text.parse::<NodeName>().map_err(|error| format!("`{text}`: {error}"))
        });
        let data_dir = self.needed("data-dir", "say where the agent keeps its data", |text| match text {
            "" => Err("must not be empty"),
            path => Ok(PathBuf::from(path)),
        });
        let control_plane = self.control_plane();
        let join_token_file = self.one("join-token-file", None, |text| Ok::<_, String>(PathBuf::from(text)));
        let advertise = self.one("advertise", None, host);
        let api_listen = self.listen("api-listen", API_LISTEN_DEFAULT, advertise.is_some());
        let ingress_listen = self.listen("ingress-listen", INGRESS_LISTEN_DEFAULT, advertise.is_some());
        if let (Some(api), Some(ingress)) = (api_listen, ingress_listen)
            && api == ingress
            && api.port() != 0
        {
            self.wrong(
                "--ingress-listen",
                format!("{ingress} is where the API listens; give each its own port"),
            );
        }
        let labels = self.labels();
        let memory = self.one("memory", None, str::parse::<ByteSize>);
        let log_format = self.one("log-format", Some("text"), |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("`{other}` is not a form of the log: text or json")),
        });
        let log_filter = self.one("log-filter", Some("info"), |text| {
            text.parse::<tracing_subscriber::EnvFilter>()
                .map(|_| text.to_owned())
                .map_err(|error| format!("`{text}` is not a filter: {error}"))
        });
        let drain_deadline = self.one("drain-deadline", Some(DRAIN_DEADLINE_DEFAULT), |text| {
            let deadline = parse_duration(text).map_err(|error| error.to_string())?;
            if deadline > DRAIN_DEADLINE_MAX {
                return Err(format!(
                    "`{text}` is more than the {} s there may be",
                    DRAIN_DEADLINE_MAX.as_secs()
                ));
            }
            Ok(deadline)
        });
        let endpoint = self.one("otlp-endpoint", None, traces::read_endpoint);
        let ratio = self.one("trace-ratio", Some(TRACE_RATIO_DEFAULT), traces::read_ratio);
        let traces = endpoint.zip(ratio).map(|(endpoint, ratio)| traces::Settings { endpoint, ratio });
        let read = (name, data_dir, api_listen, ingress_listen, log_format, log_filter, drain_deadline);
        match read {
            (Some(name), Some(data_dir), Some(api), Some(ingress), Some(format), Some(filter), Some(drain))
                if self.mistakes.is_empty() =>
            {
                Ok(Config {
                    name,
                    data_dir,
                    control_plane,
                    join_token_file,
                    api_listen: api,
                    ingress_listen: ingress,
                    advertise,
                    labels,
                    memory,
                    log_format: format,
                    log_filter: filter,
                    drain_deadline: drain,
                    allow_private_egress: self.allow_private_egress,
                    traces,
                })
            }
            _ => Err(self.mistakes),
        }
    }
}

fn member(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is not the address of a control plane: write https://host:port");
    let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => {
            return Err(format!("`{text}`: a control plane speaks TLS only: write https://host:port"));
        }
        _ => return Err(wrong()),
    }
    if uri.port().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(uri)
}

fn label(text: &str) -> Result<(&str, &str), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not a label: write key=value"))?;
    if !is_label(key, value) {
        return Err(format!(
            "`{text}`: a label's key and value have up to {LABEL_MAX_BYTES} printable ASCII characters, without spaces, and \
             the label `{NODE_LABEL}` is the name of the node, and those that begin with `{ATTRIBUTES}` it has by itself"
        ));
    }
    Ok((key, value))
}

fn host(text: &str) -> Result<String, String> {
    let address = text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified());
    let name = text.parse::<model::route::Host>().is_ok() && text.parse::<IpAddr>().is_err();
    if address || name {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a host name or an address: write it without scheme and port"))
}

impl Config {
    /// How others reach what listens at `bound`, as `host:port`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertise {
            None => bound.to_string(),
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{}", bound.port()),
            Some(host) => format!("{host}:{}", bound.port()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Config, String> {
        let words = std::iter::once("node-agent").chain(line.split_whitespace()).map(OsString::from);
        read(words).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_filled_in() {
        let config = check("--name n1 --data-dir d").unwrap();
        assert_eq!(config.control_plane, ["https://127.0.0.1:7100".parse::<Uri>().unwrap()]);
        assert_eq!(config.api_listen, "127.0.0.1:7200".parse().unwrap());
        assert_eq!(config.drain_deadline, Duration::from_secs(20));
        assert_eq!(config.memory, None);
        assert_eq!(config.advertised("127.0.0.1:4711".parse().unwrap()), "127.0.0.1:4711");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let text = check(
            "--name N1 --control-plane http://cp:1 --control-plane cp --ingress-listen 10.0.0.1:1 --label zone \
             --label a=b --label a=c --memory 2G --log-format xml --drain-deadline 2h \
             --otlp-endpoint https://otlp:4317 --trace-ratio 1.5",
        )
        .unwrap_err();
        for expected in [
            "12 settings are wrong:",
            "--name: `N1`: `N` cannot be in a name",
            "--data-dir: is missing",
            "--control-plane: `http://cp:1`: a control plane speaks TLS only",
            "--control-plane: `cp` is not the address",
            "--ingress-listen: 10.0.0.1:1 is not a loopback address",
            "--insecure-listen",
            "--label: `zone` is not a label",
            "--label: `a` is given twice",
            "--memory: `2G` is not a size",
            "--log-format: `xml`",
            "--drain-deadline: `2h` is more than the 600 s",
            "--otlp-endpoint: `https://otlp:4317`: https to a collector",
            "--trace-ratio: `1.5` is not a part",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_unknown_keys_fail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(
            &path,
            "name = \"from-file\"\ndata-dir = \"d\"\ncontrol-plane = [\"https://a:1\", \"https://b:2\"]\n\
             memory = \"1Gi\"\n[labels]\nzone = \"a\"\n",
        )
        .unwrap();
        let config = check(&format!("--config {} --name flag", path.display())).unwrap();
        assert_eq!(config.name.as_str(), "flag");
        assert_eq!(config.control_plane.len(), 2);
        assert_eq!(config.memory, Some(ByteSize(1 << 30)));
        assert_eq!(config.labels["zone"], "a");

        std::fs::write(&path, "nmae = \"x\"\nmemory = 5\ncontrol-plane = \"https://a:1\"\ninsecure-listen = 1")
            .unwrap();
        let text = check(&format!("--config {} --name n --data-dir d", path.display())).unwrap_err();
        assert!(text.starts_with("4 settings are wrong:"), "{text}");
        assert!(text.contains("nmae in") && text.contains("is no setting; there are: name,"), "{text}");
        assert!(text.contains("must be a list of texts"), "{text}");
    }

    #[test]
    fn there_are_traces_only_with_a_collector() {
        let line = "--name n --data-dir d --trace-ratio 0.25";
        assert_eq!(check(line).unwrap().traces, None);
        let config = check(&format!("{line} --otlp-endpoint http://127.0.0.1:4317/")).unwrap();
        let expected = "http://127.0.0.1:4317/".parse().unwrap();
        assert_eq!(config.traces, Some(traces::Settings { endpoint: expected, ratio: 0.25 }));
        for wrong in ["127.0.0.1:4317", "http://a:4317/v1/traces", "grpc://a:4317"] {
            let text = check(&format!("{line} --otlp-endpoint {wrong}")).unwrap_err();
            assert!(text.contains("is not the address of a collector"), "{text}");
        }
    }

    #[test]
    fn an_address_for_all_interfaces_needs_one_to_advertise() {
        let line = "--name n --data-dir d --insecure-listen --api-listen 0.0.0.0:1 --ingress-listen [::]:2";
        assert!(check(line).unwrap_err().contains("add --advertise"));
        let config = check(&format!("{line} --advertise fd00::7")).unwrap();
        assert_eq!(config.advertised(config.api_listen), "[fd00::7]:1");
        assert!(check(&format!("{line} --advertise http://a:1")).unwrap_err().contains("--advertise: "));
    }
}

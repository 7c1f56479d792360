//! The way of spans to a collector: OTLP over gRPC, in batches, beside the requests and never in their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Uri;
use model::name::NodeName;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tonic::transport::Endpoint;

use crate::traces::{On, Traces};

/// Spans that wait to be sent, some 2 KiB each; more are dropped, and requests do not wait.
const WAITING_MAX: usize = 4_096;
/// Spans of one message.
const BATCH_MAX: usize = 512;
/// How long a span waits for others before it is sent.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take to be reached, and to take one message: its spans are dropped then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last spans may take at the end: with all else that is waited for there, not more than the 30 s after
/// which container runtimes kill.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where spans go, and of which traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The collector, `http://host:port`.
    pub endpoint: Uri,
    /// The part of the traces that begin here and are recorded, from 0 to 1.
    pub ratio: f64,
}

/// Why there cannot be traces.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The exporter refuses its settings.
    #[error("the way to the collector of traces cannot be made")]
    Exporter(#[from] ExporterBuildError),
}

/// Reads the address of a collector.
pub fn read_endpoint(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is not the address of a collector: write http://host:4317");
    let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http")
            if uri.authority().is_some() && matches!(uri.path(), "" | "/") && uri.query().is_none() =>
        {
            Ok(uri)
        }
        Some("https") => Err(format!(
            "`{text}`: https to a collector is not supported: run one on this machine and write http://127.0.0.1:4317"
        )),
        _ => Err(wrong()),
    }
}

/// Reads the part of the traces that is recorded.
pub fn read_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("`{text}` is not a part of all traces: write a number from 0 to 1"))
}

impl Traces {
    /// Begins to tell a collector of what this node does; without settings, nobody. Nothing is dialled before there is
    /// something to tell.
    pub fn open(settings: Option<&Settings>, node: &NodeName) -> Result<Self, OpenError> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let channel = Endpoint::from(settings.endpoint.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(EXPORT_TIMEOUT)
            .connect_lazy();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let told = Told { exporter, endpoint: settings.endpoint.clone(), is_failing: AtomicBool::new(false) };
        let processor = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
        let version = env!("CARGO_PKG_VERSION");
        let attributes = [
            KeyValue::new("service.name", "weft-node-agent"),
            KeyValue::new("service.version", version),
            KeyValue::new("weft.node", node.to_string()),
        ];
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio))))
            .with_resource(Resource::builder_empty().with_attributes(attributes).build())
            .build();
        let scope = InstrumentationScope::builder("weft").with_version(version).build();
        let tracer = provider.tracer_with_scope(scope);
        Ok(Self { on: Some(Arc::new(On { provider, tracer })) })
    }

    /// Sends what is left, within a bound; from now on there are no spans.
    pub async fn stop(&self) {
        let Some(on) = self.on.clone() else { return };
        // It waits for the thread that sends.
        let stopping = tokio::task::spawn_blocking(move || on.provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if let Ok(Err(error)) = stopping.await {
            tracing::warn!(%error, "the last spans were not told to the collector");
        }
    }
}

/// An exporter that says when its collector is lost and found, once each.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    endpoint: Uri,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !was_failing => tracing::warn!(
                endpoint = %self.endpoint,
                %error,
                "the collector of traces takes no spans; they are dropped until it does"
            ),
            Ok(()) if was_failing => {
                tracing::info!(endpoint = %self.endpoint, "the collector of traces takes spans again");
            }
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

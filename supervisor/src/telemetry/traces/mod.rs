//! Traces of jobs for OpenTelemetry: one for each job, with a span for each phase and each attempt. Off unless
//! `telemetry.otlp` is set. No span holds a prompt.
//!
//! - [`context`] reads the caller's `traceparent`
//! - [`job`] collects the moments of one job and turns them into spans
//! - [`span`] is one span, and its JSON for OTLP
//! - [`sink`] is the bounded way to the program that sends them

pub mod context;
pub mod job;
pub mod sink;
pub mod span;

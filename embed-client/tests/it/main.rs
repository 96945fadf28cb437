//! The client with real workers, in one binary so that it is linked once.

mod provider;
mod supervision;
mod support;

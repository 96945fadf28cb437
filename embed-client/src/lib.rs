//! embed-client.

//! napi-client.

//! embed-protocol.

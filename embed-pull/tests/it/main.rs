//! The whole way from a name to a file, over real sockets, against servers that behave as networks do.

mod address;
mod hostile;
mod hub;
mod server;
mod support;
mod troubles;

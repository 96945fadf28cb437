//! Every instruction set against the law.

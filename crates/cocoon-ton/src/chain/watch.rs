//! Following a contract: the root, above all.

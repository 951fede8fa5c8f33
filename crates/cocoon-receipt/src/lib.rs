//! Signed usage: what a worker says a request came to.

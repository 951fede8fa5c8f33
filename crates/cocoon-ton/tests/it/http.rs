//! The devnet over HTTP: answers as the stock clients parse them, and requests that no client sends.

mod answers;
mod controls;
mod hostile;
mod server;

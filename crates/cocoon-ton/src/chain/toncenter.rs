//! A chain over toncenter's HTTP API, version 2. Its answers are reported, not proved.

//! What a service manager such as systemd is told, and what it hands over. A real one is in
//! `tests/systemd`.
mod activation;
mod notifications;
mod units;

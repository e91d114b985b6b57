#![no_main]
supervisor_fuzz::target!(http);

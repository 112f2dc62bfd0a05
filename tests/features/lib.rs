//! An empty library: its manifest gives shared crates the same features in every build.

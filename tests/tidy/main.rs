//! The code keeps its own rules: floors, absences, names, the map. Facts, not taste.
//!
//! Every check is a function over sources that gives the violations, so that each can be shown to find
//! one in a planted text.

mod absences;
mod crates;
mod definitions;
mod families;
mod floors;
mod imports;
mod map;
mod mutations;
mod names;
mod paths;
mod promises;
mod sources;
mod split;
mod words;

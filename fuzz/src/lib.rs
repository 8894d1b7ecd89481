//! What the fuzz targets share: frames made by hand, arbitrary JSON and settings, and a second opinion
//! on JSON headers.

mod end;
pub mod json;
pub mod offer;
pub mod oracle;
pub mod peer;
pub mod sec;
pub mod settings;
pub mod solo;
pub mod wire;
pub mod world;

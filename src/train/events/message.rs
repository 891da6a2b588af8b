//! The messages of an event file, with the field numbers of TensorFlow's `event.proto`,
//! `summary.proto` (Apache 2.0; the numbers are the format). Fields that are not written here are
//! left out, and skipped where another program wrote them. Fields of a `oneof` are optional here.

use prost::Message;

/// A record of the file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Steps done.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// Of the first record alone: `brain.Event:2`.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Numbers and images.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    /// That training begins at this step: what was written of it and later ones counts no more.
    #[prost(message, optional, tag = "7")]
    pub session_log: Option<SessionLog>,
}

/// Values of one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Each of another tag.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A number or an image.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// The curve's name; what stands before a slash is its group.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// An image.
    #[prost(message, optional, tag = "4")]
    pub image: Option<Image>,
}

/// An image file.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// Pixels.
    #[prost(int32, tag = "1")]
    pub height: i32,
    /// Pixels.
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 1 is grey, 3 is RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// PNG.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// Whether a session begins or ends.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// 1: it begins.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// [`SessionLog::status`] at the beginning.
pub const START: i32 = 1;

//! Reason codes of version 5, as far as they are sent or make a difference.

/// All is well.
pub const SUCCESS: u8 = 0x00;
/// PUBACK and PUBREC: the message is taken, and nobody is subscribed to it.
pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
/// UNSUBACK: there was no such subscription.
pub const NO_SUBSCRIPTION: u8 = 0x11;
/// From here on codes say that something failed. SUBACK of 3.1.1: refused.
pub const UNSPECIFIED: u8 = 0x80;
/// It cannot be read.
pub const MALFORMED: u8 = 0x81;
/// It must not be sent, or not now.
pub const PROTOCOL_ERROR: u8 = 0x82;
/// The version is not served.
pub const UNSUPPORTED_VERSION: u8 = 0x84;
/// The client id is not taken.
pub const BAD_CLIENT_ID: u8 = 0x85;
/// The user name or the password is wrong.
pub const BAD_LOGIN: u8 = 0x86;
/// The client may not do this.
pub const NOT_AUTHORIZED: u8 = 0x87;
/// The server is not there at present.
pub const UNAVAILABLE: u8 = 0x88;
/// There is too much to do.
pub const BUSY: u8 = 0x89;
/// The gateway is stopping.
pub const SHUTTING_DOWN: u8 = 0x8b;
/// The server lets this client in no more.
pub const BANNED: u8 = 0x8a;
/// The authentication method is not served.
pub const BAD_METHOD: u8 = 0x8c;
/// Nothing was heard for too long.
pub const KEEP_ALIVE: u8 = 0x8d;
/// Another connection has the client id now.
pub const TAKEN_OVER: u8 = 0x8e;
/// The filter is not valid.
pub const BAD_FILTER: u8 = 0x8f;
/// The topic is not valid, or not to be published to.
pub const BAD_TOPIC: u8 = 0x90;
/// The id is one of a message that is still under way.
pub const ID_IN_USE: u8 = 0x91;
/// No message has this id.
pub const UNKNOWN_ID: u8 = 0x92;
/// More messages are unacknowledged than is allowed.
pub const RECEIVE_MAXIMUM: u8 = 0x93;
/// The alias of a topic is not known, or higher than is allowed.
pub const BAD_ALIAS: u8 = 0x94;
/// The packet is larger than is taken.
pub const PACKET_TOO_LARGE: u8 = 0x95;
/// More is sent than is allowed.
pub const MESSAGE_RATE: u8 = 0x96;
/// There is no room for it.
pub const QUOTA: u8 = 0x97;
/// Somebody has decided so.
pub const ADMINISTRATIVE: u8 = 0x98;
/// The payload is not what its properties say.
pub const PAYLOAD_FORMAT: u8 = 0x99;
/// Retained messages are not taken.
pub const NO_RETAIN: u8 = 0x9a;
/// Messages of this quality of service are not taken.
pub const NO_QOS: u8 = 0x9b;
/// Another server is to be used, for now.
pub const USE_ANOTHER_SERVER: u8 = 0x9c;
/// Another server is to be used from now on.
pub const SERVER_MOVED: u8 = 0x9d;
/// The client tries too often.
pub const RATE: u8 = 0x9f;

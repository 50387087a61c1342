//! The closed lists: what the labels of the exporter's own metrics can be.

/// Why something could not be read: the label `reason` of `streamgauge_poll_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The host name does not resolve.
    Resolve,
    /// No connection could be made.
    Connect,
    /// No secure connection could be made.
    Tls,
    /// The connection broke.
    Io,
    /// The deadline passed.
    Timeout,
    /// The password was refused, or one is needed.
    Auth,
    /// The password file cannot be read.
    PasswordFile,
    /// The ACL refuses a command or a key.
    Denied,
    /// The server is loading its dataset.
    Loading,
    /// The node is not what the configuration wants it to be (master or replica).
    Role,
    /// No sentinel knows the master.
    Sentinel,
    /// A key that another node of the cluster holds by now; it is asked there.
    Moved,
    /// Another error reply of the server.
    Server,
    /// A reply that does not have the expected form.
    Protocol,
    /// A key that is not there.
    MissingKey,
    /// A key that holds another type.
    WrongType,
    /// A group that is not there.
    MissingGroup,
}

impl Reason {
    /// Every one of them.
    pub const ALL: [Self; 17] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Io,
        Self::Timeout,
        Self::Auth,
        Self::PasswordFile,
        Self::Denied,
        Self::Loading,
        Self::Role,
        Self::Sentinel,
        Self::Moved,
        Self::Server,
        Self::Protocol,
        Self::MissingKey,
        Self::WrongType,
        Self::MissingGroup,
    ];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Io => "io",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::PasswordFile => "password_file",
            Self::Denied => "denied",
            Self::Loading => "loading",
            Self::Role => "role",
            Self::Sentinel => "sentinel",
            Self::Moved => "moved",
            Self::Server => "server",
            Self::Protocol => "protocol",
            Self::MissingKey => "missing_key",
            Self::WrongType => "wrong_type",
            Self::MissingGroup => "missing_group",
        }
    }
}

/// How a poll ended: the label `result` of `streamgauge_polls_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    /// Everything was read.
    Ok,
    /// The deadline cut it off; the rest goes first in the next poll.
    Partial,
    /// Nothing was read.
    Failed,
}

impl PollResult {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Partial, Self::Failed];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// What a limit leaves out: the label `what` of `streamgauge_limited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Streams beyond `limits.streams`.
    Streams,
    /// Groups beyond `limits.groups_per_stream`.
    Groups,
    /// Consumers of groups that have more than `limits.consumers_per_group`.
    Consumers,
}

impl Limited {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Streams, Self::Groups, Self::Consumers];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Groups => "groups",
            Self::Consumers => "consumers",
        }
    }
}

/// What is sent to Redis: the label `command` of `streamgauge_redis_commands_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// ASKING, before each command about a slot that is on its way to another node.
    Asking,
    /// AUTH, on connecting.
    Auth,
    /// CLIENT NO-TOUCH, on connecting.
    ClientNoTouch,
    /// CLUSTER SLOTS, or CLUSTER SHARDS where that is refused; once per poll of a cluster.
    Cluster,
    /// HELLO, once per poll: it tells the role.
    Hello,
    /// INFO, on connecting: tells whether the server is the same process as before.
    Info,
    /// SCAN.
    Scan,
    /// SENTINEL GET-MASTER-ADDR-BY-NAME, once per poll.
    Sentinel,
    /// SELECT, on connecting, where the database is not 0.
    Select,
    /// TIME, once per pipeline.
    Time,
    /// XINFO CONSUMERS.
    XinfoConsumers,
    /// XINFO GROUPS.
    XinfoGroups,
    /// XINFO STREAM.
    XinfoStream,
    /// XPENDING.
    Xpending,
    /// XRANGE.
    Xrange,
}

impl Command {
    /// Every one of them.
    pub const ALL: [Self; 15] = [
        Self::Asking,
        Self::Auth,
        Self::ClientNoTouch,
        Self::Cluster,
        Self::Hello,
        Self::Info,
        Self::Scan,
        Self::Sentinel,
        Self::Select,
        Self::Time,
        Self::XinfoConsumers,
        Self::XinfoGroups,
        Self::XinfoStream,
        Self::Xpending,
        Self::Xrange,
    ];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Auth => "auth",
            Self::ClientNoTouch => "client_no_touch",
            Self::Cluster => "cluster",
            Self::Hello => "hello",
            Self::Info => "info",
            Self::Scan => "scan",
            Self::Sentinel => "sentinel",
            Self::Select => "select",
            Self::Time => "time",
            Self::XinfoConsumers => "xinfo_consumers",
            Self::XinfoGroups => "xinfo_groups",
            Self::XinfoStream => "xinfo_stream",
            Self::Xpending => "xpending",
            Self::Xrange => "xrange",
        }
    }
}

/// What came of telling a receiver of alerts: the label `result` of `streamgauge_notifications_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationResult {
    /// The receiver took it.
    Delivered,
    /// An attempt failed; it is tried again.
    Failed,
    /// The receiver refuses it, and would again; it is not tried again.
    Rejected,
    /// There was no room for it, or no time at the end of the program.
    Dropped,
}

impl NotificationResult {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::Rejected, Self::Dropped];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
        }
    }
}

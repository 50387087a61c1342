//! The values of labels of the exporter's own metrics.

/// Defines an enum of label values with `ALL` and `as_str`.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All values.
            pub const ALL: [Self; [$($value),+].len()] = [$(Self::$variant),+];

            /// Returns the value of the label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

label_values! {
    /// Causes of read errors: the label `reason` of `streamgauge_poll_errors_total`.
    Reason {
        /// The host name does not resolve.
        Resolve = "resolve",
        /// The connection failed.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The connection broke.
        Io = "io",
        /// The deadline passed.
        Timeout = "timeout",
        /// The password was refused, or one is needed.
        Auth = "auth",
        /// The password file cannot be read.
        PasswordFile = "password_file",
        /// The command that prints the password failed.
        PasswordCommand = "password_command",
        /// The ACL refuses a command or a key.
        Denied = "denied",
        /// The server is loading its dataset.
        Loading = "loading",
        /// The node does not have the configured role.
        Role = "role",
        /// A node that is not in `allowed_nodes`.
        NodeNotAllowed = "node_not_allowed",
        /// No sentinel knows the master.
        Sentinel = "sentinel",
        /// Another node of the cluster has the key now; it is read there.
        Moved = "moved",
        /// Another error reply of the server.
        Server = "server",
        /// A reply of an unexpected form.
        Protocol = "protocol",
        /// A missing key.
        MissingKey = "missing_key",
        /// A key of another type.
        WrongType = "wrong_type",
        /// A missing group.
        MissingGroup = "missing_group",
    }
}

label_values! {
    /// Results of polls: the label `result` of `streamgauge_polls_total`.
    PollResult {
        /// Everything was read.
        Ok = "ok",
        /// The poll timed out; remaining streams are read first next time.
        Partial = "partial",
        /// Nothing was read.
        Failed = "failed",
    }
}

label_values! {
    /// Objects left out by a limit: the label `what` of `streamgauge_limited`.
    Limited {
        /// Streams beyond `limits.streams`.
        Streams = "streams",
        /// Groups beyond `limits.groups_per_stream`.
        Groups = "groups",
        /// Consumers of groups that have more live ones than `limits.consumers_per_group`, or too many to be read.
        Consumers = "consumers",
    }
}

label_values! {
    /// Commands sent to Redis: the label `command` of `streamgauge_redis_commands_total`.
    Command {
        /// ASKING, before each command about a slot that is migrating.
        Asking = "asking",
        /// AUTH, on connecting.
        Auth = "auth",
        /// CLIENT NO-TOUCH, on connecting.
        ClientNoTouch = "client_no_touch",
        /// CLUSTER SLOTS, or CLUSTER SHARDS where that is refused; once per poll of a cluster.
        Cluster = "cluster",
        /// HELLO, once per poll, for the role.
        Hello = "hello",
        /// INFO, on connecting: shows whether the server is still the same process.
        Info = "info",
        /// MEMORY USAGE.
        MemoryUsage = "memory_usage",
        /// SCAN.
        Scan = "scan",
        /// SENTINEL GET-MASTER-ADDR-BY-NAME, once per poll.
        Sentinel = "sentinel",
        /// SELECT, on connecting, where the database is not 0.
        Select = "select",
        /// TIME, once per pipeline.
        Time = "time",
        /// XINFO CONSUMERS.
        XinfoConsumers = "xinfo_consumers",
        /// XINFO GROUPS.
        XinfoGroups = "xinfo_groups",
        /// XINFO STREAM.
        XinfoStream = "xinfo_stream",
        /// XPENDING.
        Xpending = "xpending",
        /// XRANGE.
        Xrange = "xrange",
    }
}

label_values! {
    /// Results of sending alerts: the label `result` of `streamgauge_notifications_total`.
    NotificationResult {
        /// The receiver accepted it.
        Delivered = "delivered",
        /// An attempt failed and is repeated.
        Failed = "failed",
        /// The receiver refused it permanently.
        Rejected = "rejected",
        /// The queue was full, or the shutdown grace period was over.
        Dropped = "dropped",
    }
}

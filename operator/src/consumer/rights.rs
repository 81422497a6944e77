//! Rights that the operator has in a namespace only where the namespace's owner binds a ClusterRole of the chart there,
//! and the command that does. It asks nobody for rights and gives none.

use crate::args::Args;

/// A right that is not given with the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// To read the Secrets that jobs take as inputs.
    ReadSecrets,
    /// To look at claims, and to run mover pods.
    Move,
}

/// Which ClusterRole gives which right, and to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights<'a> {
    args: &'a Args,
}

impl<'a> Rights<'a> {
    /// As the installation names its roles.
    pub(crate) fn new(args: &'a Args) -> Self {
        Self { args }
    }

    /// The command that gives the right in the namespace.
    pub(crate) fn command(self, right: Right, namespace: &str) -> String {
        let consumer = &self.args.consumer;
        let (name, role) = match right {
            Right::ReadSecrets => ("tradewind-secret-reader", &consumer.secret_reader_role),
            Right::Move => ("tradewind-mover", &consumer.mover_role),
        };
        format!(
            "kubectl create rolebinding {name} --namespace={namespace} --clusterrole={role} --serviceaccount={}:{}",
            self.args.namespace, consumer.service_account
        )
    }
}

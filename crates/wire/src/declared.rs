//! What every declared object has, said once for all kinds: which kind it is, and its metadata.

use crate::registry::declaration::Object;
use crate::registry::{Declaration, Kind, Metadata};

/// The variants of [`Object`] and [`Kind`] bear the same names, so a new kind is one word here.
macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        impl Object {
            /// Which kind it is.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)+
                }
            }

            /// Its metadata, where it has any.
            #[must_use]
            pub fn metadata(&self) -> Option<&Metadata> {
                match self {
                    $(Self::$kind(of) => of.metadata.as_ref(),)+
                }
            }

            /// Its metadata to be written.
            pub fn metadata_mut(&mut self) -> &mut Option<Metadata> {
                match self {
                    $(Self::$kind(of) => &mut of.metadata,)+
                }
            }
        }
    };
}

kinds! {
    Namespace, AgentClass, Agent, Role, RoleBinding, Policy, EnforcementPoint, SigningKey, Revocation, Group, Boundary,
    CredentialPolicy, TrustedIssuer, AttestationPolicy, DelegationGrant, PolicyTest, OperatorBinding, Node,
    FederatedTrustDomain, LifecyclePolicy, ReviewCampaign, Approval, StopOrder,
}

impl Declaration {
    /// The kind of the object; `None` when it holds none.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.object.as_ref().map(Object::kind)
    }

    /// The object's metadata, where it has any.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.object.as_ref()?.metadata()
    }

    /// The object's metadata to be written, where it has any.
    pub fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        self.object.as_mut()?.metadata_mut().as_mut()
    }
}

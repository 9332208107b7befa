//! What is declared of an agent, as texts that stay where they are: read out of the bytes of a snapshot, or of a message.
//!
//! A view takes in a million agents before its first answer, and prost would make some twenty texts of each, of which the
//! view keeps two. What is not plain is left to prost, which alone says what is wrong with it.

use legate_wire::registry as wire;
use prost::Message as _;

use crate::fields::{Field, Fields, Strange};

/// An agent as it was declared. It can be read into again and again, which spares its lists.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Declared<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) id: &'a str,
    pub(crate) metadata_version: u32,
    pub(crate) created: Option<prost_types::Timestamp>,
    /// In the order of the keys, each once.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) class: &'a str,
    pub(crate) owners: Vec<&'a str>,
    pub(crate) sponsors: Vec<&'a str>,
    pub(crate) manager: &'a str,
    pub(crate) display_name: &'a str,
    pub(crate) external_id: &'a str,
    pub(crate) parent: &'a str,
    pub(crate) nature: DeclaredNature<'a>,
    pub(crate) expires: Option<prost_types::Timestamp>,
    pub(crate) ceiling: Vec<wire::Permission>,
    pub(crate) state: i32,
    pub(crate) lifecycle_version: u64,
    pub(crate) cutoff: Option<prost_types::Timestamp>,
    pub(crate) ancestors: Vec<&'a str>,
}

/// What it is made of, and where it runs.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct DeclaredNature<'a> {
    pub(crate) environment: i32,
    pub(crate) risk_tier: i32,
    pub(crate) framework: &'a str,
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    pub(crate) regions: Vec<&'a str>,
    pub(crate) data_classifications: Vec<&'a str>,
    pub(crate) protocols: Vec<&'a str>,
}

impl<'a> Declared<'a> {
    /// What the message says.
    ///
    /// # Errors
    /// Which of its parts is missing.
    pub(crate) fn of(from: &'a wire::Agent) -> Result<Self, &'static str> {
        let metadata = from.metadata.as_ref().ok_or("metadata is missing")?;
        let spec = from.spec.as_ref().ok_or("spec is missing")?;
        let status = from.status.as_ref().ok_or("status is missing")?;
        Ok(Self {
            namespace: &metadata.namespace,
            name: &metadata.name,
            id: &metadata.id,
            metadata_version: metadata.version,
            created: metadata.create_time,
            labels: metadata.labels.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect(),
            class: &spec.agent_class,
            owners: texts(&spec.owners),
            sponsors: texts(&spec.sponsors),
            manager: &spec.manager,
            display_name: &spec.display_name,
            external_id: &spec.external_id,
            parent: &spec.parent,
            nature: DeclaredNature {
                environment: spec.environment,
                risk_tier: spec.risk_tier,
                framework: &spec.framework,
                model: &spec.model,
                version: &spec.version,
                regions: texts(&spec.regions),
                data_classifications: texts(&spec.data_classifications),
                protocols: texts(&spec.protocols),
            },
            expires: spec.expire_time,
            ceiling: spec.ceiling.clone(),
            state: status.state,
            lifecycle_version: status.lifecycle_version,
            cutoff: status.authorization_cutoff,
            ancestors: texts(&status.ancestors),
        })
    }

    /// Reads the bytes of a `Declaration` in the place of what was read before. Whether it is an agent; where it is not, and
    /// after an error, what is here means nothing.
    ///
    /// # Errors
    /// Bytes that prost may read otherwise, or not at all.
    pub(crate) fn read(&mut self, declaration: &'a [u8]) -> Result<bool, Strange> {
        self.clear();
        let mut fields = Fields(declaration);
        // The field of `object` that is an agent, and nothing else.
        let Some((3, Field::Bytes(agent))) = fields.next()? else { return Ok(false) };
        fields.end()?;
        let (mut metadata, mut spec, mut status) = (None, None, None);
        let mut fields = Fields(agent);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => once(&mut metadata, field.bytes()?)?,
                2 => once(&mut spec, field.bytes()?)?,
                3 => once(&mut status, field.bytes()?)?,
                _ => {}
            }
        }
        self.read_metadata(metadata.ok_or(Strange)?)?;
        self.read_spec(spec.ok_or(Strange)?)?;
        self.read_status(status.ok_or(Strange)?)?;
        Ok(true)
    }

    fn clear(&mut self) {
        let mut kept = std::mem::take(self);
        let nature = &mut kept.nature;
        let lists = [&mut kept.owners, &mut kept.sponsors, &mut kept.ancestors, &mut nature.regions];
        lists.into_iter().chain([&mut nature.data_classifications, &mut nature.protocols]).for_each(Vec::clear);
        kept.labels.clear();
        kept.ceiling.clear();
        *self = Self {
            labels: kept.labels,
            owners: kept.owners,
            sponsors: kept.sponsors,
            ceiling: kept.ceiling,
            ancestors: kept.ancestors,
            nature: DeclaredNature {
                regions: kept.nature.regions,
                data_classifications: kept.nature.data_classifications,
                protocols: kept.nature.protocols,
                ..DeclaredNature::default()
            },
            ..Self::default()
        };
    }

    fn read_metadata(&mut self, bytes: &'a [u8]) -> Result<(), Strange> {
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.name = field.text()?,
                2 => self.namespace = field.text()?,
                3 => self.labels.push(entry(field.bytes()?)?),
                5 => self.id = field.text()?,
                8 => once(&mut self.created, moment(field.bytes()?)?)?,
                // A number of 32 bits is cut to them, as prost does.
                13 => self.metadata_version = field.number()? as u32,
                _ => {}
            }
        }
        // Whoever wrote it in another order, or a key twice, is read by prost.
        let in_order = self.labels.windows(2).all(|two| two[0].0 < two[1].0);
        if in_order { Ok(()) } else { Err(Strange) }
    }

    fn read_spec(&mut self, bytes: &'a [u8]) -> Result<(), Strange> {
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.class = field.text()?,
                3 => self.nature.environment = field.number()? as i32,
                4 => self.owners.push(field.text()?),
                5 => self.sponsors.push(field.text()?),
                6 => self.manager = field.text()?,
                7 => self.display_name = field.text()?,
                8 => self.external_id = field.text()?,
                9 => self.parent = field.text()?,
                10 => self.nature.framework = field.text()?,
                11 => self.nature.model = field.text()?,
                12 => self.nature.version = field.text()?,
                13 => self.nature.protocols.push(field.text()?),
                14 => self.nature.risk_tier = field.number()? as i32,
                15 => self.nature.data_classifications.push(field.text()?),
                16 => self.nature.regions.push(field.text()?),
                18 => once(&mut self.expires, moment(field.bytes()?)?)?,
                19 => self.ceiling.push(wire::Permission::decode(field.bytes()?).map_err(|_| Strange)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_status(&mut self, bytes: &'a [u8]) -> Result<(), Strange> {
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.state = field.number()? as i32,
                2 => self.lifecycle_version = field.number()?,
                3 => once(&mut self.cutoff, moment(field.bytes()?)?)?,
                14 => self.ancestors.push(field.text()?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn texts(from: &[String]) -> Vec<&str> {
    from.iter().map(String::as_str).collect()
}

/// A message that comes twice is one of both, which is prost's to make.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Strange> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Strange),
    }
}

/// An entry of a map: a message of a key and a value.
fn entry(bytes: &[u8]) -> Result<(&str, &str), Strange> {
    let (mut key, mut text) = ("", "");
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => key = field.text()?,
            2 => text = field.text()?,
            _ => {}
        }
    }
    Ok((key, text))
}

fn moment(bytes: &[u8]) -> Result<prost_types::Timestamp, Strange> {
    let mut at = prost_types::Timestamp::default();
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => at.seconds = field.number()? as i64,
            2 => at.nanos = field.number()? as i32,
            _ => {}
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry::Declaration;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;

    use super::*;
    use crate::agent::tests::declared;

    fn bytes(agent: wire::Agent) -> Vec<u8> {
        Declaration { object: Some(Object::Agent(agent)) }.encode_to_vec()
    }

    /// As prost reads it; `None`: not as an agent.
    fn by_prost(bytes: &[u8]) -> Option<wire::Agent> {
        match Declaration::decode(bytes) {
            Ok(Declaration { object: Some(Object::Agent(agent)) }) => Some(agent),
            _ => None,
        }
    }

    /// A permission and the parts that the view does not keep.
    fn more(mut agent: wire::Agent, n: u8) -> wire::Agent {
        let text = "x".repeat(n.into());
        let (metadata, spec) = (agent.metadata.get_or_insert_default(), agent.spec.get_or_insert_default());
        metadata.annotations.insert(text.clone(), text.clone());
        metadata.reason.clone_from(&text);
        metadata.revision = u64::from(n) << 50;
        spec.purpose.clone_from(&text);
        spec.charter = Some(wire::Charter { uri: text.clone(), sha256: String::new() });
        let resource = Some(wire::ResourceSelector { r#type: "Invoice".into(), ..Default::default() });
        spec.ceiling = vec![wire::Permission { action: text.clone(), resource }; usize::from(n % 3)];
        agent.status.get_or_insert_default().state_reason = text;
        agent
    }

    proptest! {
        /// What is read, one agent after the other in the same place, is what prost reads.
        #[test]
        fn what_is_read_is_what_prost_reads(all in prop::collection::vec((declared(), any::<u8>()), 1..8)) {
            let all: Vec<wire::Agent> = all.into_iter().map(|(agent, n)| more(agent, n)).collect();
            let written: Vec<Vec<u8>> = all.iter().cloned().map(bytes).collect();
            let mut one = Declared::default();
            for (agent, bytes) in all.iter().zip(&written) {
                prop_assert_eq!(one.read(bytes), Ok(true));
                prop_assert_eq!(&one, &Declared::of(agent).unwrap());
            }
        }

        /// Whatever bytes come: what is read is what prost reads, or it is left to prost.
        #[test]
        fn bytes_that_are_strange_are_never_read_otherwise(
            agent in declared(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
            twice in any::<bool>(),
        ) {
            let mut bytes = bytes(agent);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if twice {
                bytes.extend(bytes.clone());
            }
            let mut one = Declared::default();
            if one.read(&bytes) == Ok(true)
                && let Ok(declaration) = Declaration::decode(bytes.as_slice())
            {
                let Some(Object::Agent(agent)) = declaration.object else { panic!("{bytes:?}") };
                prop_assert_eq!(&one, &Declared::of(&agent).unwrap());
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_prost() {
        let id = legate_ids::AgentId::from_parts(1, [1; 10]).to_string();
        let metadata = wire::Metadata { id, name: "bot".into(), ..wire::Metadata::default() };
        let whole =
            wire::Agent { metadata: Some(metadata), spec: Some(Default::default()), status: Some(Default::default()) };
        let plain = bytes(whole.clone());
        assert_eq!(Declared::default().read(&plain), Ok(true));
        // An agent that comes twice is one of both; one of which a part is missing is told by prost.
        let twice = [plain.clone(), plain.clone()].concat();
        assert!(by_prost(&twice).is_some());
        for strange in [twice, bytes(wire::Agent { status: None, ..whole }), plain[..plain.len() - 1].to_vec()] {
            assert_eq!(Declared::default().read(&strange), Err(Strange));
        }
        let role = Declaration { object: Some(Object::Role(wire::Role::default())) }.encode_to_vec();
        assert_eq!(Declared::default().read(&role), Ok(false));
        assert_eq!(Declared::default().read(&[]), Ok(false));
    }
}

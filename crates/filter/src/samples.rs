//! Filters and subjects for tests: random ones that keep to the grammar.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::{Field, Filter, Form, Micros, Node, Order, Subject, Term, Test};

/// A subject out of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) texts: BTreeMap<Field, Vec<String>>,
    pub(crate) words: BTreeMap<Field, i32>,
    pub(crate) moments: BTreeMap<Field, Micros>,
}

impl Subject for Sample {
    fn any_text(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.texts.get(field).is_some_and(|texts| texts.iter().any(|text| test(text)))
    }

    fn word(&self, field: &Field) -> Option<i32> {
        self.words.get(field).copied()
    }

    fn moment(&self, field: &Field) -> Option<Micros> {
        self.moments.get(field).copied()
    }
}

fn texts() -> impl Strategy<Value = Field> {
    let label = "[A-Za-z0-9._/-]{1,8}".prop_map(Field::Label);
    prop_oneof![Just(Field::Name), Just(Field::Model), Just(Field::Owners), Just(Field::Regions), label]
}

fn words() -> impl Strategy<Value = Field> {
    prop_oneof![Just(Field::Environment), Just(Field::State), Just(Field::RiskTier)]
}

fn moments() -> impl Strategy<Value = Field> {
    prop_oneof![Just(Field::CreateTime), Just(Field::LastUsedTime)]
}

fn order() -> impl Strategy<Value = Order> {
    use Order::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    prop_oneof![Just(Equal), Just(Less), Just(LessOrEqual), Just(Greater), Just(GreaterOrEqual)]
}

/// Few letters, so that values meet; and the signs that have to be escaped.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ab]{1,2}", 1 => r#"[ab"\\*%_' ü()]{1,6}"#]
}

fn moment() -> impl Strategy<Value = Micros> {
    // Year 0 to year 9999.
    prop_oneof![0..4i64, -62_167_219_200_000_000..253_402_300_799_999_999i64]
}

fn term() -> impl Strategy<Value = Term> {
    let of_text = prop_oneof![Just(Test::Present), text().prop_map(Test::Is), text().prop_map(Test::Begins)];
    let of_word = (words(), order(), 0..7usize).prop_map(|(field, order, n)| {
        let Form::Choice { words, ordered } = field.form() else { unreachable!() };
        let order = if ordered { order } else { Order::Equal };
        let number = words[n % words.len()].1;
        Term { field, test: Test::Word(order, number) }
    });
    let of_moment =
        (moments(), order(), moment()).prop_map(|(field, order, at)| Term { field, test: Test::Moment(order, at) });
    let present = prop_oneof![words(), moments()].prop_map(|field| Term { field, test: Test::Present });
    prop_oneof![4 => (texts(), of_text).prop_map(|(field, test)| Term { field, test }), 2 => of_word, 2 => of_moment, 1 => present]
}

pub(crate) fn node() -> impl Strategy<Value = Node> {
    term().prop_map(Node::Term).prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::Any),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    })
}

pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    node().prop_map(|root| Filter { root })
}

pub(crate) fn subject() -> impl Strategy<Value = Sample> {
    let some_texts = prop::collection::btree_map(texts(), prop::collection::vec("[ab]{0,2}", 0..3), 0..5);
    let some_words = prop::collection::btree_map(words(), 0..5i32, 0..3);
    let some_moments = prop::collection::btree_map(moments(), 0..4i64, 0..3);
    (some_texts, some_words, some_moments).prop_map(|(texts, words, moments)| Sample { texts, words, moments })
}

//! What fits into memory and what does not.
use super::*;
use crate::FrontChange;
use crate::{Change, Reload};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Four slots of 512 MiB and what a worker takes.
const LARGE: PoolLimits = PoolLimits { workers: 4, memory: GIB, ..REQUEST };
const NEEDS: Needs = Needs { weights: GIB, cache: GIB / 2 };
const NEED: Need = Need { weights: GIB, slots: 4, private: 64 * MIB, cache: GIB / 2 };

fn memory(total: u64, available: u64) -> Memory {
    Memory { total, available, addresses: None }
}

fn needs(generation: u64, memory: Memory) -> Event {
    Event::Needs { template: template(generation), needs: NEEDS, memory }
}

/// The first template says what it needs: what follows.
fn told(memory: Memory) -> Vec<Effect> {
    Rig::cold(Limits::default(), LARGE).feed(needs(1, memory))
}

fn refused(shortage: MemoryShortage) -> [Effect; 2] {
    [Effect::DoesNotFit(template(1), shortage), Effect::KillTemplate(template(1))]
}

#[test]
fn a_model_fits_with_all_its_workers_or_not_at_all() {
    let exactly = GIB + 4 * (GIB / 2 + 64 * MIB);
    assert_eq!(NEED.total(), exactly);
    assert_eq!(told(memory(exactly, 2 * GIB)), [Effect::Admit(template(1))]);
    let shortage = MemoryShortage::Total { need: NEED, free: exactly - 1, all: exactly - 1 };
    assert_eq!(told(memory(exactly - 1, 2 * GIB)), refused(shortage));
}

#[test]
fn a_model_of_which_no_worker_fits_now_is_refused() {
    let least = GIB + GIB / 2 + 64 * MIB;
    assert_eq!(told(memory(8 * GIB, least)), [Effect::Admit(template(1))]);
    let shortage = MemoryShortage::Available { need: NEED, unread: GIB, available: least - 1 };
    assert_eq!(told(memory(8 * GIB, least - 1)), refused(shortage));
}

#[test]
fn what_no_process_may_map_is_refused() {
    let limited = |addresses| told(Memory { addresses: Some(addresses), ..PLENTY });
    assert_eq!(limited(GIB + GIB / 2), [Effect::Admit(template(1))]);
    assert_eq!(limited(GIB), refused(MemoryShortage::Addresses { need: NEED, limit: GIB }));
}

#[test]
fn what_other_models_may_take_is_counted_until_their_templates_have_ended() {
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![LARGE, LARGE], 1));
    assert_eq!(rig.effects().len(), 2);
    let both = memory(2 * NEED.total() - 1, u64::MAX);
    let other = TemplateId { pool: PoolId(1), generation: 1 };
    let mut asks = |template| rig.feed(Event::Needs { template, needs: NEEDS, memory: both });
    assert_eq!(asks(template(1)), [Effect::Admit(template(1))]);
    let shortage = MemoryShortage::Total { need: NEED, free: NEED.total() - 1, all: both.total };
    assert_eq!(asks(other)[0], Effect::DoesNotFit(other, shortage));
    assert_eq!(rig.feed(Event::TemplateExited(other)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    let deadline = rig.policy.next_deadline().unwrap();
    let other = TemplateId { generation: 2, ..other };
    assert_eq!(rig.wait(deadline.since(rig.now)), [Effect::Load(other)]);
    // The first one has not said what it needs yet, this time.
    let effects = rig.feed(Event::Needs { template: other, needs: NEEDS, memory: both });
    assert_eq!(effects, [Effect::Admit(other)]);
}

#[test]
fn a_model_that_takes_more_than_it_said_does_not_stay() {
    let mut rig = Rig::cold(Limits::default(), LARGE);
    let memory = memory(NEED.total(), u64::MAX);
    assert_eq!(rig.feed(needs(1, memory)).len(), 1);
    let loaded = |taken| Loaded { identity: WEIGHTS, needs: NEEDS, taken, memory };
    let need = Need { weights: GIB + 1, ..NEED };
    let shortage = MemoryShortage::Total { need, free: memory.total, all: memory.total };
    assert_eq!(rig.feed(Event::TemplateReady(template(1), loaded(GIB + 1))), refused(shortage));
    assert!(matches!(rig.view().state, TemplateState::Failed { .. }));
    assert!(rig.policy.is_hopeless());
    let mut rig = Rig::cold(Limits::default(), LARGE);
    assert_eq!(rig.feed(needs(1, memory)).len(), 1);
    assert_eq!(rig.feed(Event::TemplateReady(template(1), loaded(GIB))).len(), 4);
    assert!(!rig.policy.is_hopeless());
}

#[test]
fn a_worker_is_forked_when_there_is_room_for_it_and_a_spare_needs_no_cache_of_its_own() {
    let mut rig = Rig::cold(Limits::default(), PoolLimits { workers: 1, ..LARGE });
    let loaded = Loaded { identity: WEIGHTS, needs: NEEDS, taken: 0, memory: PLENTY };
    let need = Need { slots: 1, ..NEED };
    rig.memory = memory(8 * GIB, GIB / 2);
    let shortage = MemoryShortage::Worker { need, available: GIB / 2 };
    let effects = rig.feed(Event::TemplateReady(template(1), loaded));
    assert_eq!(effects, [Effect::NoMemory(worker(0, 1), shortage)]);
    assert_eq!(rig.wait_for_deadline(Limits::default().room), [Effect::NoMemory(worker(0, 1), shortage)]);
    rig.memory = memory(8 * GIB, GIB / 2 + 64 * MIB);
    assert_eq!(rig.wait_for_deadline(Limits::default().room), [fork(1, worker(0, 1))]);
    assert_eq!(rig.start(worker(0, 1)), []);
    rig.memory = memory(8 * GIB, 64 * MIB - 1);
    let shortage = MemoryShortage::Worker { need, available: 64 * MIB - 1 };
    let effects = [dispatch(worker(0, 1), 1, 1), Effect::NoMemory(worker(0, 2), shortage)];
    assert_eq!(rig.submit(1)[..1], effects[..1]);
    rig.memory = memory(8 * GIB, 64 * MIB);
    assert_eq!(rig.wait(Limits::default().room), [fork(1, worker(0, 2))]);
}

#[test]
fn memory_that_nobody_asked_for_changes_nothing() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.feed(Event::MemoryRead(PoolId(0), PLENTY)), []);
    assert_eq!(rig.feed(Event::MemoryRead(PoolId(7), PLENTY)), []);
}

#[test]
fn a_reload_that_makes_models_grow_beyond_the_memory_changes_nothing() {
    let one = PoolLimits { workers: 1, ..LARGE };
    let mut rig = Rig::cold(Limits::default(), one);
    let loaded = Loaded { identity: WEIGHTS, needs: NEEDS, taken: 0, memory: PLENTY };
    assert_eq!(rig.feed(Event::TemplateReady(template(1), loaded)).len(), 1);
    rig.memory = memory(NEED.total() - 1, u64::MAX);
    let add = Change::Add { pool: PoolId(1), limits: REQUEST };
    let grow = Change::Adjust { pool: PoolId(0), limits: LARGE };
    let reload = Event::Reload(Reload {
        drain: seconds(7),
        changes: vec![add, grow],
        front: FrontChange::Keep,
        memory: rig.memory,
    });
    let shortage = MemoryShortage::Total { need: NEED, free: NEED.total() - 1, all: NEED.total() - 1 };
    let refusal = ReloadRefusal::Outgrows(PoolId(0), shortage);
    assert_eq!(rig.feed(reload), [Effect::ReloadRefused(refusal), Effect::Removed(PoolId(1))]);
    assert_eq!(rig.policy.pools[&PoolId(0)].limits, one);
    rig.memory = memory(NEED.total(), u64::MAX);
    let reload =
        Event::Reload(Reload { drain: seconds(7), changes: vec![grow], front: FrontChange::Keep, memory: rig.memory });
    assert_eq!(rig.feed(reload)[0], Effect::Reloaded);
    assert_eq!(rig.policy.pools[&PoolId(0)].need, Some(NEED));
}

#[test]
fn a_model_may_grow_into_what_another_one_leaves() {
    let one = PoolLimits { workers: 1, ..LARGE };
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![one, one], 1));
    assert_eq!(rig.effects().len(), 2);
    let loaded = Loaded { identity: WEIGHTS, needs: NEEDS, taken: 0, memory: PLENTY };
    for pool in [0, 1] {
        let template = TemplateId { pool: PoolId(pool), generation: 1 };
        assert_eq!(rig.feed(Event::TemplateReady(template, loaded)).len(), 1);
    }
    let grow = Change::Adjust { pool: PoolId(0), limits: LARGE };
    let memory = memory(NEED.total(), u64::MAX);
    let reload = |changes: &[Change]| {
        Event::Reload(Reload { drain: seconds(7), changes: changes.to_vec(), front: FrontChange::Keep, memory })
    };
    assert!(matches!(rig.feed(reload(&[grow]))[..], [Effect::ReloadRefused(ReloadRefusal::Outgrows(PoolId(0), _))]));
    assert_eq!(rig.feed(reload(&[grow, Change::Remove(PoolId(1))]))[0], Effect::Reloaded);
}

#[test]
fn a_model_that_is_only_opened_is_compared_with_the_whole_machine() {
    let lazy = PoolLimits { load: Load::Lazy, ..LARGE };
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![REQUEST], 1));
    assert_eq!(rig.effects().len(), 1);
    let opened = TemplateId { pool: PoolId(1), generation: 1 };
    let add = |pool| Change::Add { pool, limits: lazy };
    let reload = |pool| {
        Event::Reload(Reload { drain: seconds(7), changes: vec![add(pool)], front: FrontChange::Keep, memory: PLENTY })
    };
    assert_eq!(rig.feed(reload(PoolId(1))), [Effect::Examine(opened)]);
    let exactly = memory(NEED.total(), 0);
    let effects = rig.feed(Event::Needs { template: opened, needs: NEEDS, memory: exactly });
    assert_eq!(effects, [Effect::KillTemplate(opened), Effect::Reloaded]);
    let opened = TemplateId { pool: PoolId(2), generation: 1 };
    assert_eq!(rig.feed(reload(PoolId(2))), [Effect::Examine(opened)]);
    let less = memory(NEED.total() - 1, u64::MAX);
    let effects = rig.feed(Event::Needs { template: opened, needs: NEEDS, memory: less });
    assert!(matches!(effects[..2], [Effect::DoesNotFit(id, _), Effect::KillTemplate(_)] if id == opened));
    assert_eq!(effects[2..], [Effect::ReloadRefused(ReloadRefusal::NotServed(PoolId(2)))]);
}

#[test]
fn no_claim_is_too_large_to_be_refused() {
    let most = Needs { weights: u64::MAX, cache: u64::MAX };
    let mut rig = Rig::cold(Limits::default(), PoolLimits { workers: u32::MAX >> 16, ..LARGE });
    let effects = rig.feed(Event::Needs { template: template(1), needs: most, memory: memory(GIB, GIB) });
    assert!(matches!(effects[0], Effect::DoesNotFit(..)));
    assert_eq!(Need::of(&PoolLimits { memory: MIB, ..LARGE }, NEEDS).private, MIB);
}

//! A chain that takes back the block that opened a job, and gives the job's seats to somebody else.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tradewind_chain::calls;
use tradewind_crds::chain_intent::ChainIntent;
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;
use tradewind_crds::provider_offer::ProviderOffer;
use tradewind_market::{GroupIndex, JobId};

use crate::lab::{Cluster, DevAccount};
use crate::market::{Market, MarketError, NAMESPACE, Party, Role, SeatBooks, manifest};

use super::ScenarioError;
use super::books::{self, require};
use super::job::{Job, JobSpec};
use super::logs::{self, Expected};
use super::strike;
use super::time;

/// The offer that two want: as many slots as the job has groups, and the cheapest.
const OFFER: &str = "narrow";
const GROUPS: u32 = 2;
/// Whose it is.
const SELLER: Role = Role::Provider(0);
/// The account of the other buyer: no cluster's operator has it.
const OTHER: Role = Role::Provider(6);
const OFFERED_WITHIN: Duration = Duration::from_mins(2);
/// A block is final when two more are upon it (with the lab's `slots_in_an_epoch`).
const DEPTH_MAX: u64 = 2;

/// In the block that replaces the one that opened the job, another buyer takes its seats. The job says that an offer
/// was lost, is matched again, and is run and paid once; nothing was begun for the opening that is no more.
pub(super) async fn opening_taken_back(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let seller = market.cluster_of(SELLER)?;
    offer(market, &seller).await?;
    let other = Party::new(market, OTHER).await?;
    other.supply("100").await?;
    let spec = JobSpec {
        completions: 2 * GROUPS,
        slice: 1,
        slices_per_group: 2,
        ..JobSpec::default()
    };
    let before = strike::journal(&market.consumer()?).await?;
    let mut job = Job::apply(market, namespace, &spec).await?;
    logs::expect(
        [
            "the chain undid a block",
            // Its events are perhaps just being asked for.
            "eth_getLogs: the node says unknown block",
        ]
        .map(Expected::of_operators),
    );
    let opening = opening(market, &before).await?;
    let others_job = time::while_held(market, take_back(market, &mut job, &opening)).await?;
    job.complete().await?;

    told_of(market, namespace, "OfferLost").await?;
    let account = SELLER.account().address.to_lowercase();
    let theirs = books::of(market, &others_job).await?;
    require(books::seats(&theirs).any(|seat| seat.provider == account), || {
        "the other buyer has the seats".to_owned()
    })?;
    let ours = books::of(market, &job.id()).await?;
    books::add_up(&ours)?;
    books::all_seats(&ours, "Agreed", None)?;
    let dearer = |seat: &&SeatBooks| seat.provider == account;
    let pays: Vec<_> = books::seats(&ours).filter(dearer).map(|seat| &seat.pay).collect();
    let others_pay = books::seats(&theirs).find(dearer).map(|seat| &seat.pay);
    require(
        pays.len() == GROUPS as usize && pays.iter().all(|pay| Some(*pay) != others_pay),
        || format!("{account} serves the job by its other offer ({pays:?}, the lost one: {others_pay:?})"),
    )?;

    call_off(&other, &others_job).await?;
    books::add_up(&books::at_the_end(market, &others_job).await?)?;
    let offers: Api<ProviderOffer> = Api::namespaced(seller.client().await?, NAMESPACE);
    let gone = offers.delete(OFFER, &DeleteParams::default()).await;
    gone.map(drop)
        .map_err(MarketError::kubernetes("withdraw the narrow offer"))?;
    Ok(())
}

/// The other buyer gives up its job, whose groups it never sealed.
async fn call_off(other: &Party, job: &str) -> Result<(), ScenarioError> {
    let id: JobId = job
        .parse()
        .map_err(|error| ScenarioError::NotSo(format!("{job} is a job's id: {error}")))?;
    let groups: Vec<GroupIndex> = (0..GROUPS).map(GroupIndex::new).collect();
    let steps = [
        calls::cancel_job(other.market(), id),
        calls::close_groups(other.market(), id, &groups),
    ];
    other.send(&calls::multicall(other.market(), &steps)).await?;
    Ok(())
}

/// Publishes an offer that a job of so many groups takes whole.
async fn offer(market: &Market<'_>, seller: &Cluster<'_>) -> Result<(), ScenarioError> {
    let offer = json!({
        "apiVersion": "tradewind.dev/v1alpha1",
        "kind": "ProviderOffer",
        "metadata": {"name": OFFER, "namespace": NAMESPACE},
        "spec": {
            "class": {"cpu": "1", "memory": "512Mi", "disk": "2Gi", "cpuLevel": "x86-64-v2"},
            "slots": {"max": GROUPS},
            "price": {"perSlotSecond": "0.00005", "token": market.token()},
            "terms": {"region": seller.name(), "maxSecondsPerUnit": 600},
            "bond": {"amount": "50"},
        },
    });
    manifest::apply(seller, &offer.to_string()).await?;
    market.wait_until_published(seller, OFFER, OFFERED_WITHIN).await?;
    Ok(())
}

/// Lets the job be opened and the operator see it, then replaces that block by one in which the other buyer opens a
/// job with the very same seats. Gives that job's id. No block is made meanwhile but by hand.
async fn take_back(
    market: &Market<'_>,
    job: &mut Job<'_, '_>,
    opening: &str,
) -> Result<String, ScenarioError> {
    let (evm, other) = (market.lab().evm(), OTHER.account());
    let found = mined(market, opening).await?;
    job.until(JobCondition::Funded, True, None).await?;
    let depth = time::height(market).await? + 1 - time::number(&found["blockNumber"])?;
    require(depth <= DEPTH_MAX, || {
        format!("the opening is not final when it is taken back ({depth} blocks)")
    })?;
    let nonce = evm
        .rpc("eth_getTransactionCount", json!([other.address, "latest"]))
        .await?;
    let rival = json!({
        "from": other.address,
        "to": market.address(),
        "data": first_step(&found)?,
        "gas": found["gas"],
        "gasPrice": found["maxFeePerGas"],
        "nonce": nonce,
        "value": "0x0",
    });
    evm.rpc("anvil_reorg", json!([depth, [[rival, 0]]])).await?;
    opened_by(market, other).await
}

/// The transaction that opens the job, as soon as the operator has signed it.
async fn opening(market: &Market<'_>, before: &[ChainIntent]) -> Result<String, ScenarioError> {
    let consumer = market.consumer()?;
    let signed = Mutex::new(None);
    time::until("the job's opening is signed", || async {
        let found = strike::opening(&strike::journal(&consumer).await?, before);
        let mut signed = signed.lock().await;
        *signed = found.map(|(_, hash)| hash);
        Ok(signed.is_some())
    })
    .await?;
    signed
        .into_inner()
        .ok_or_else(|| ScenarioError::NotSo("the job's opening is signed".to_owned()))
}

/// The transaction in a block. Whoever signed it may not have sent it yet.
async fn mined(market: &Market<'_>, hash: &str) -> Result<Value, ScenarioError> {
    let evm = market.lab().evm();
    let ask = || async { evm.rpc("eth_getTransactionByHash", json!([hash])).await };
    time::until("the node has the opening", || async {
        Ok(ask().await?.is_object())
    })
    .await?;
    if ask().await?["blockNumber"].is_null() {
        evm.rpc("evm_mine", json!([])).await?;
    }
    Ok(ask().await?)
}

/// The first call of a transaction that makes several (`multicall(bytes[])`): it opens the job, with all its fills.
fn first_step(transaction: &Value) -> Result<String, ScenarioError> {
    let unreadable = || ScenarioError::NotSo("the opening makes several calls in one transaction".to_owned());
    let input = transaction["input"].as_str().and_then(|text| text.get(2..));
    let input = input
        .and_then(|text| hex::decode(text).ok())
        .ok_or_else(unreadable)?;
    let arguments = input.get(4..).ok_or_else(unreadable)?;
    let word = |at: usize| -> Option<usize> {
        let word = arguments.get(at..at.checked_add(32)?)?;
        Some(usize::from_be_bytes(word.get(24..)?.try_into().ok()?))
    };
    let step = || {
        let calls = word(0)?.checked_add(32)?;
        let first = calls.checked_add(word(calls)?)?;
        let begin = first.checked_add(32)?;
        arguments.get(begin..begin.checked_add(word(first)?)?)
    };
    step()
        .map(|call| format!("0x{}", hex::encode(call)))
        .ok_or_else(unreadable)
}

/// The id of the job that the newest block opened for an account.
async fn opened_by(market: &Market<'_>, buyer: &DevAccount) -> Result<String, ScenarioError> {
    let books = market.audit().await?;
    let account = buyer.address.to_lowercase();
    let opened = books.jobs.into_iter().find(|(_, job)| job.buyer == account);
    opened
        .map(|(id, _)| id)
        .ok_or_else(|| ScenarioError::NotSo("the replacing block opened the other buyer's job".to_owned()))
}

/// The job's author was told so in an Event.
async fn told_of(market: &Market<'_>, namespace: &str, reason: &str) -> Result<(), ScenarioError> {
    let events: Api<Event> = Api::namespaced(market.consumer()?.client().await?, namespace);
    let list = events
        .list(&ListParams::default())
        .await
        .map_err(MarketError::kubernetes("list the Events of a job"))?;
    let told: Vec<_> = list.items.into_iter().filter_map(|event| event.reason).collect();
    require(told.iter().any(|told| told == reason), || {
        format!("an Event says {reason} ({told:?})")
    })
}

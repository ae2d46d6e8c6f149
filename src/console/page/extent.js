// From when to when something was, by the times that its events tell, of which some may be wrong: a clock that stands at
// 1970, a year too many. One such event does not set the scale for the others.

/** Times further apart are not of one cluster. */
const APART_MS = 3_600_000;
/** A beginning or an end may be so far away from everything else. */
const BOUND_MS_MAX = 30 * 86_400_000;
/** A cluster counts that has this share of the events, and so many. */
const SHARE_MIN = 0.05;
const EVENTS_MIN = 3;
/** Beyond, the two nearest become one. */
const CLUSTERS_MAX = 200;

export class Extent {
  /** `{ from, to, count, said, bounds, arrivedBounds }` in the order of time, more than `APART_MS` from each other. `said`
   *  is how many of them tell their time themselves. */
  #clusters = [];
  #count = 0;
  #range = null;

  /** `isBound` is true for what begins or ends something; `isSaid` is false for an event that has its arrival's time. */
  add(at, isBound, isSaid = true) {
    this.#count += 1;
    this.#range = null;
    const place = this.#place(at);
    const near = [place - 1, place].find((index) => this.#isNear(index, at));
    if (near === undefined) {
      const cluster = { from: at, to: at, count: 0, said: 0, bounds: 0, arrivedBounds: 0 };
      this.#clusters.splice(place, 0, cluster);
      count(cluster, isBound, isSaid);
      if (this.#clusters.length > CLUSTERS_MAX) this.#joinNearest();
      return;
    }
    const cluster = this.#clusters[near];
    cluster.from = Math.min(cluster.from, at);
    cluster.to = Math.max(cluster.to, at);
    count(cluster, isBound, isSaid);
    if (this.#isNear(near + 1, cluster.to)) this.#join(near);
  }

  /** The first cluster that begins behind `at`. */
  #place(at) {
    let [low, high] = [0, this.#clusters.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#clusters[middle].from <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #isNear(index, at) {
    const cluster = this.#clusters[index];
    return cluster !== undefined && cluster.from - APART_MS <= at && at <= cluster.to + APART_MS;
  }

  /** Makes one of a cluster and the next. */
  #join(index) {
    const [one, other] = this.#clusters.splice(index, 2);
    const joined = { from: one.from, to: Math.max(one.to, other.to) };
    for (const name of ["count", "said", "bounds", "arrivedBounds"]) joined[name] = one[name] + other[name];
    this.#clusters.splice(index, 0, joined);
  }

  #joinNearest() {
    let nearest = 0;
    const distance = (index) => this.#clusters[index + 1].from - this.#clusters[index].to;
    for (let index = 1; index < this.#clusters.length - 1; index += 1) if (distance(index) < distance(nearest)) nearest = index;
    this.#join(nearest);
  }

  /** `{ from, to }`, or null while there is nothing. */
  get range() {
    if (this.#count > 0) this.#range ??= this.#measure();
    return this.#range;
  }

  #measure() {
    const clusters = this.#clusters;
    // Of two that are alike the one that tells its own time, then the later: clocks that are not set are behind, and what
    // is new is looked at.
    const isMore = (one, other) => one.count - other.count || one.said - other.said;
    const main = clusters.reduce((best, cluster) => (isMore(cluster, best) >= 0 ? cluster : best));
    let { from, to } = main;
    // Arrivals are by another clock. Where most times are by it, it is the one to go by.
    const isByArrival = main.said * 2 < main.count;
    const isMany = ({ count }) => count >= EVENTS_MIN && count >= this.#count * SHARE_MIN;
    const isBound = ({ bounds, arrivedBounds }, distance) => (bounds > 0 || (isByArrival && arrivedBounds > 0)) && distance <= BOUND_MS_MAX;
    // From the middle outwards, past those that do not count by themselves.
    for (const cluster of clusters.toReversed()) if (cluster.to < from && (isMany(cluster) || isBound(cluster, from - cluster.to))) from = cluster.from;
    for (const cluster of clusters) if (cluster.from > to && (isMany(cluster) || isBound(cluster, cluster.from - to))) to = cluster.to;
    return { from, to };
  }
}

function count(cluster, isBound, isSaid) {
  cluster.count += 1;
  if (isSaid) cluster.said += 1;
  if (isBound && isSaid) cluster.bounds += 1;
  if (isBound && !isSaid) cluster.arrivedBounds += 1;
}

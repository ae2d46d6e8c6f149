// From when to when something was, by the times that its events tell, of which some may be wrong: a clock that stands at
// 1970, a year too many. One such event does not set the scale for the others.

/** Times further apart are not of one cluster. */
const APART_MS = 3_600_000;
/** A beginning or an end may be so far away from everything else. */
const BOUND_MS_MAX = 30 * 86_400_000;
/** A cluster counts that has this share of the events, and so many. */
const SHARE_MIN = 0.05;
const EVENTS_MIN = 3;
/** Or one that is no further away than so many times what is known. */
const REACH = 100;
/** Beyond, the two nearest become one. */
const CLUSTERS_MAX = 200;

export class Extent {
  /** `{ from, to, count, bounds }` in the order of time, more than `APART_MS` from each other. */
  #clusters = [];
  #count = 0;
  #range = null;

  /** `isBound` is true for what begins or ends something. */
  add(at, isBound) {
    this.#count += 1;
    this.#range = null;
    const place = this.#place(at);
    const near = [place - 1, place].find((index) => this.#isNear(index, at));
    if (near === undefined) {
      this.#clusters.splice(place, 0, { from: at, to: at, count: 1, bounds: isBound ? 1 : 0 });
      if (this.#clusters.length > CLUSTERS_MAX) this.#joinNearest();
      return;
    }
    const cluster = this.#clusters[near];
    cluster.from = Math.min(cluster.from, at);
    cluster.to = Math.max(cluster.to, at);
    cluster.count += 1;
    if (isBound) cluster.bounds += 1;
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
    const joined = { from: one.from, to: Math.max(one.to, other.to), count: one.count + other.count, bounds: one.bounds + other.bounds };
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
    // Of two that are alike the later: clocks that are not set are behind, and what is new is looked at.
    const main = clusters.reduce((best, cluster, index) => (cluster.count >= clusters[best].count ? index : best), 0);
    let { from, to } = clusters[main];
    const counts = ({ count, bounds }, distance) =>
      (count >= EVENTS_MIN && count >= this.#count * SHARE_MIN) || (bounds > 0 && distance <= BOUND_MS_MAX) || distance <= REACH * (to - from);
    for (let index = main - 1; index >= 0 && counts(clusters[index], from - clusters[index].to); index -= 1) from = clusters[index].from;
    for (let index = main + 1; index < clusters.length && counts(clusters[index], clusters[index].from - to); index += 1) to = clusters[index].to;
    return { from, to };
  }
}
